/* Terminal modes as SSH encodes them (RFC 4254, section 8), put into a struct termios. */
#ifndef TERMINAL_H
#define TERMINAL_H

#include <termios.h>
#include <unistd.h>

#include "codec.h"

void terminal_apply(struct termios *state, const struct term_mode *modes, uint32_t count); /* unknown ones: ignored */

#endif
