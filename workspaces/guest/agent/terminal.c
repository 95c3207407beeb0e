/* Terminal modes as SSH encodes them (RFC 4254, section 8), put into a struct termios. */
#include "terminal.h"

#include <stddef.h>

/* clang-format off */
static const struct { uint8_t opcode; uint8_t index; } characters[] = {
	{1, VINTR}, {2, VQUIT}, {3, VERASE}, {4, VKILL}, {5, VEOF}, {6, VEOL}, {7, VEOL2}, {8, VSTART}, {9, VSTOP},
	{10, VSUSP}, {12, VREPRINT}, {13, VWERASE}, {14, VLNEXT}, {18, VDISCARD},
};

/* Character size and parity (opcodes 90 to 93) are left out: a pty has no other than CS8 without parity. */
enum word { INPUT, LOCAL, OUTPUT };

static const struct { uint8_t opcode; enum word word; tcflag_t bits; } flags[] = {
	{30, INPUT, IGNPAR}, {31, INPUT, PARMRK}, {32, INPUT, INPCK}, {33, INPUT, ISTRIP}, {34, INPUT, INLCR},
	{35, INPUT, IGNCR}, {36, INPUT, ICRNL}, {37, INPUT, IUCLC}, {38, INPUT, IXON}, {39, INPUT, IXANY},
	{40, INPUT, IXOFF}, {41, INPUT, IMAXBEL}, {42, INPUT, IUTF8},
	{50, LOCAL, ISIG}, {51, LOCAL, ICANON}, {52, LOCAL, XCASE}, {53, LOCAL, ECHO}, {54, LOCAL, ECHOE},
	{55, LOCAL, ECHOK}, {56, LOCAL, ECHONL}, {57, LOCAL, NOFLSH}, {58, LOCAL, TOSTOP}, {59, LOCAL, IEXTEN},
	{60, LOCAL, ECHOCTL}, {61, LOCAL, ECHOKE}, {62, LOCAL, PENDIN},
	{70, OUTPUT, OPOST}, {71, OUTPUT, OLCUC}, {72, OUTPUT, ONLCR}, {73, OUTPUT, OCRNL}, {74, OUTPUT, ONOCR},
	{75, OUTPUT, ONLRET},
};

static const struct { uint32_t baud; speed_t speed; } speeds[] = {
	{0, B0}, {50, B50}, {75, B75}, {110, B110}, {134, B134}, {150, B150}, {200, B200}, {300, B300}, {600, B600},
	{1200, B1200}, {1800, B1800}, {2400, B2400}, {4800, B4800}, {9600, B9600}, {19200, B19200}, {38400, B38400},
	{57600, B57600}, {115200, B115200}, {230400, B230400}, {460800, B460800}, {921600, B921600},
};
/* clang-format on */

enum { OPCODE_ISPEED = 128, OPCODE_OSPEED = 129, NO_CHARACTER = 255 };

static speed_t speed_of(uint32_t baud)
{
	speed_t speed = B38400;

	for (size_t i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++)
		if (speeds[i].baud == baud)
			speed = speeds[i].speed;
	return speed;
}

static void apply_flag(struct termios *state, const struct term_mode *mode)
{
	tcflag_t *words[] = {&state->c_iflag, &state->c_lflag, &state->c_oflag};

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		tcflag_t *word = words[flags[i].word];

		if (flags[i].opcode == mode->opcode)
			*word = mode->value ? *word | flags[i].bits : *word & ~flags[i].bits;
	}
}

void terminal_apply(struct termios *state, const struct term_mode *modes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct term_mode *mode = &modes[i];

		for (size_t j = 0; j < sizeof(characters) / sizeof(characters[0]); j++)
			if (characters[j].opcode == mode->opcode)
				state->c_cc[characters[j].index] =
					mode->value == NO_CHARACTER ? _POSIX_VDISABLE : (cc_t)mode->value;
		apply_flag(state, mode);
		if (mode->opcode == OPCODE_ISPEED)
			cfsetispeed(state, speed_of(mode->value));
		else if (mode->opcode == OPCODE_OSPEED)
			cfsetospeed(state, speed_of(mode->value));
	}
}
