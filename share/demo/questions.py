"""Write the questions that score.sh asks: questions.py [--n 500] [--seed 1000]

A line each: question TAB right answer.  The tasks take turns; the model has not
seen the seed.
"""
import argparse, random
import data

a = argparse.ArgumentParser(); a.add_argument("--n", type=int, default=500); a.add_argument("--seed", type=int, default=1000)
a = a.parse_args()
r = random.Random(a.seed)
tasks = [t for t, _ in data.TASKS]
for i in range(a.n):
    q, _, ans = tasks[i % len(tasks)](r)
    print(f"{q}\t{ans}")
