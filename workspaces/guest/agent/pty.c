/*
 * A session's terminal: its master, relayed from and to two pipes of the gateway's.
 *
 *   input pipe ──► to_tty ──► master         master ──► from_tty ──► output pipe
 *
 * A side is read only when its buffer is empty, so a reader that stalls holds up its own process and nobody else's.
 * When the session's process has ended, the kernel's buffer is drained and the output ends, even though a
 * background process may still hold the terminal. End of input is typed as the terminal's end-of-file character.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "io.h"
#include "terminal.h"

enum {
	BUFFER = 16 * 1024,
	DRAIN_MAX = 256 * 1024, /* more than the kernel buffers: what a process of the background writes may not go on */
	EOF_MS = 200,
	EOF_MS_MAX = 5000,
	LEFT_MS = 100,
};

struct buffer {
	size_t start, end;
	char bytes[BUFFER];
};

struct pty {
	struct watch master, input, output;
	struct timer eof;
	unsigned eof_ms; /* until the next try */
	struct timer left; /* runs while nobody has the terminal open, as far as is known */
	pid_t foreground; /* the process group at the time of the hang-up, 0 if there was none */
	bool finishing;
	size_t drained;
	struct buffer to_tty, from_tty;
};

static bool arrange(struct pty *pty);
static void look_again(struct timer *timer);

static int open_slave(int master)
{
	char path[32];
	int number;
	int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (slave >= 0 || ioctl(master, TIOCGPTN, &number))
		return slave;
	/* A kernel without TIOCGPTPEER, such as gVisor's. */
	snprintf(path, sizeof(path), "/dev/pts/%d", number);
	return open(path, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

static void set_size(int fd, const struct term_size *size)
{
	struct winsize window = {
		.ws_col = size->columns, .ws_row = size->rows, .ws_xpixel = size->xpixels, .ws_ypixel = size->ypixels};

	ioctl(fd, TIOCSWINSZ, &window);
}

/* Reads into an empty buffer, or writes what is in it. False: no more will come or go. */
static bool fill(struct watch *from, struct buffer *buffer)
{
	ssize_t length;

	if (from->fd < 0)
		return false;
	length = read(from->fd, buffer->bytes, BUFFER);
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (length <= 0)
		return false;
	buffer->start = 0;
	buffer->end = (size_t)length;
	return true;
}

static bool empty(const struct buffer *buffer)
{
	return buffer->start == buffer->end;
}

static bool flush(struct watch *to, struct buffer *buffer)
{
	while (!empty(buffer)) {
		ssize_t length = to->fd < 0 ? -1 : write(to->fd, buffer->bytes + buffer->start, buffer->end - buffer->start);

		if (length < 0 && to->fd >= 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (length < 0) {
			buffer->start = buffer->end = 0;
			return false;
		}
		buffer->start += (size_t)length;
	}
	return true;
}

/*
 * Types end-of-file once the program has read all input before it, and again until it ends: one that switches the
 * terminal's mode meanwhile, as shells do between commands, makes an ordinary character of it.
 */
static void type_eof(struct timer *timer)
{
	struct pty *pty = CONTAINER_OF(timer, struct pty, eof);
	struct termios state;
	int waiting = 0;
	int slave;

	if (pty->master.fd < 0 || pty->finishing)
		return;
	slave = empty(&pty->to_tty) ? open_slave(pty->master.fd) : -1;
	if (slave >= 0) {
		if (ioctl(slave, FIONREAD, &waiting) == 0 && waiting == 0 && tcgetattr(slave, &state) == 0 &&
		    state.c_cc[VEOF] != _POSIX_VDISABLE && write(pty->master.fd, &state.c_cc[VEOF], 1) == 1 &&
		    pty->eof_ms < EOF_MS_MAX)
			pty->eof_ms += EOF_MS;
		close(slave);
	}
	timer_set(&pty->eof, pty->eof_ms, type_eof);
}

static void end_output(struct pty *pty)
{
	watch_close(&pty->output);
	if (pty->finishing)
		watch_close(&pty->master);
}

/* After the process has ended: takes what the kernel still holds, as far as the output pipe takes it. */
static void drain(struct pty *pty)
{
	while (pty->output.fd >= 0) {
		if (!flush(&pty->output, &pty->from_tty)) {
			end_output(pty);
			return;
		}
		if (!empty(&pty->from_tty))
			return;
		if (pty->drained >= DRAIN_MAX || !fill(&pty->master, &pty->from_tty) || empty(&pty->from_tty)) {
			end_output(pty);
			return;
		}
		pty->drained += pty->from_tty.end;
	}
}

static void input_ready(struct watch *watch, uint32_t events)
{
	struct pty *pty = CONTAINER_OF(watch, struct pty, input);

	(void)events;
	if (empty(&pty->to_tty) && !fill(&pty->input, &pty->to_tty)) {
		watch_close(&pty->input);
		pty->eof_ms = EOF_MS;
		timer_set(&pty->eof, 1, type_eof);
	}
	flush(&pty->master, &pty->to_tty);
	arrange(pty);
}

static void close_master(struct pty *pty)
{
	if (pty->master.fd >= 0)
		ioctl(pty->master.fd, TIOCGPGRP, &pty->foreground);
	watch_close(&pty->master);
}

static void output_ready(struct watch *watch, uint32_t events)
{
	struct pty *pty = CONTAINER_OF(watch, struct pty, output);

	if (pty->finishing)
		drain(pty);
	else if ((events & EPOLLERR) || !flush(&pty->output, &pty->from_tty)) {
		/* Nobody will see it any more: the terminal is gone, which the kernel tells the session. */
		watch_close(&pty->output);
		close_master(pty);
		pty->from_tty.start = pty->from_tty.end = 0;
	}
	arrange(pty);
}

static void master_ready(struct watch *watch, uint32_t events)
{
	struct pty *pty = CONTAINER_OF(watch, struct pty, master);

	if (pty->finishing) {
		drain(pty);
		arrange(pty);
		return;
	}
	if (events & EPOLLOUT)
		flush(&pty->master, &pty->to_tty);
	if (events & (EPOLLIN | EPOLLHUP)) {
		/* EIO: nobody has the terminal open, which would be reported without end. /dev/tty may open it again. */
		if (!empty(&pty->from_tty) || !fill(&pty->master, &pty->from_tty))
			timer_set(&pty->left, LEFT_MS, look_again);
		flush(&pty->output, &pty->from_tty);
	}
	arrange(pty);
}

static void look_again(struct timer *timer)
{
	arrange(CONTAINER_OF(timer, struct pty, left));
}

/* Waits for exactly what can go on. False with errno: it cannot be waited for, which the first time tells. */
static bool arrange(struct pty *pty)
{
	uint32_t master = 0;

	if (pty->output.fd >= 0 && empty(&pty->from_tty))
		master |= EPOLLIN;
	if (!pty->finishing && !empty(&pty->to_tty))
		master |= EPOLLOUT;
	return watch_set(&pty->master, pty->left.set ? 0 : master) &&
	       watch_set(&pty->output, empty(&pty->from_tty) ? EPOLLERR : EPOLLOUT) &&
	       watch_set(&pty->input, !pty->finishing && empty(&pty->to_tty) ? EPOLLIN : 0);
}

struct pty *pty_open(const struct message *message, int input, int output, int *slave)
{
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	struct pty *pty = loop_alloc(sizeof(*pty));
	struct termios state;
	int unlock = 0;
	int error;

	*slave = -1;
	if (!pty || master < 0 || ioctl(master, TIOCSPTLCK, &unlock))
		goto failed;
	*slave = open_slave(master);
	if (*slave < 0 || !set_blocking(*slave, true) || tcgetattr(*slave, &state))
		goto failed;
	terminal_apply(&state, message->modes, message->modec);
	if (tcsetattr(*slave, TCSANOW, &state))
		goto failed;
	set_size(master, &message->size);
	if (!set_blocking(input, false) || !set_blocking(output, false))
		goto failed;
	watch_start(&pty->master, master, master_ready);
	watch_start(&pty->input, input, input_ready);
	watch_start(&pty->output, output, output_ready);
	if (arrange(pty))
		return pty;
failed:
	error = errno;
	if (pty) {
		watch_set(&pty->master, 0);
		watch_set(&pty->input, 0);
		watch_set(&pty->output, 0);
		loop_free(pty);
	}
	if (*slave >= 0)
		close(*slave);
	if (master >= 0)
		close(master);
	errno = error;
	return NULL;
}

void pty_resize(struct pty *pty, const struct term_size *size)
{
	if (pty->master.fd >= 0)
		set_size(pty->master.fd, size);
}

void pty_finish(struct pty *pty)
{
	pty->finishing = true;
	timer_clear(&pty->eof);
	timer_clear(&pty->left);
	watch_close(&pty->input);
	drain(pty);
	arrange(pty);
}

pid_t pty_close(struct pty *pty)
{
	timer_clear(&pty->eof);
	timer_clear(&pty->left);
	watch_close(&pty->input);
	watch_close(&pty->output);
	close_master(pty);
	loop_free(pty);
	return pty->foreground > 0 ? pty->foreground : -1;
}
