/*
 * seen: which tokens a sequence has, and how often it made them itself.
 *
 * A list of entries in the order of their first sight, and an open-addressing
 * table of indices into it.  The penalties touch each entry once and walk the
 * list, so their cost is that of the distinct tokens, not of the vocabulary.
 */
#include <stdlib.h>
#include <string.h>

#include "sample/sample_priv.h"

enum { FIRST_TABLE = 64 };		/* a power of two */

int
sample_seen_new(struct sample_seen **s, struct err *e)
{
	*s = mem_new(1, sizeof(**s), e);
	return *s ? 0 : -1;
}

void
sample_seen_free(struct sample_seen **s)
{
	if (!*s)
		return;
	free((*s)->ent);
	free((*s)->table);
	free(*s);
	*s = NULL;
}

/* Where id is, or the empty place where it belongs. */
static uint32_t *
place(const struct sample_seen *s, int32_t id)
{
	/* Ids are dense: as few of them as the vocabulary allows collide. */
	size_t i = (uint32_t)id & (s->ntable - 1);

	while (s->table[i] && s->ent[s->table[i] - 1].id != id)
		i = (i + 1) & (s->ntable - 1);
	return &s->table[i];
}

/* Keeps the table at most half full. */
static int
make_room(struct sample_seen *s, struct err *e)
{
	size_t n = s->ntable ? 2 * s->ntable : FIRST_TABLE;
	uint32_t *t;

	if (mem_grow(&s->ent, &s->cap, s->n + 1, sizeof(*s->ent), e) == -1)
		return -1;
	if (2 * (s->n + 1) <= s->ntable)
		return 0;
	t = mem_new(n, sizeof(*t), e);
	if (!t)
		return -1;
	free(s->table);
	s->table = t;
	s->ntable = n;
	for (size_t i = 0; i < s->n; i++)
		*place(s, s->ent[i].id) = i + 1;
	return 0;
}

int
sample_seen_add(struct sample_seen *s, int32_t id, bool output, struct err *e)
{
	uint32_t *at;

	if (make_room(s, e) == -1)
		return -1;
	at = place(s, id);
	if (!*at) {
		s->ent[s->n] = (struct seen_entry){ .id = id };
		*at = ++s->n;
	}
	s->ent[*at - 1].nout += output;
	return 0;
}
