#include "base/base.h"

const char dsi_version[] = DSI_VERSION;
