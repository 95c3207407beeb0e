/*
 * Bytes between two connected stream sockets, both ways, with each half's end carried over.
 *
 * A side is read only when the buffer toward the other is empty. The relay ends when both halves have ended, or at
 * once when either side is gone.
 */
#include "agent.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"

enum { BUFFER = 64 * 1024 };

struct half {
	size_t start, end;
	bool eof; /* nothing more to read */
	bool shut; /* and the other side has been told */
	char bytes[BUFFER];
};

struct relay {
	struct watch side[2];
	struct half half[2]; /* half[i]: from side[i] to side[1 - i] */
};

static int relay_count;

static void relay_end(struct relay *relay)
{
	watch_close(&relay->side[0]);
	watch_close(&relay->side[1]);
	relay_count--;
	loop_free(relay);
}

/* Moves what can be moved now. */
static void pump(struct relay *relay, int from)
{
	struct half *half = &relay->half[from];
	int source = relay->side[from].fd;
	int target = relay->side[1 - from].fd;
	ssize_t length;

	if (half->start == half->end && !half->eof) {
		length = recv(source, half->bytes, BUFFER, MSG_DONTWAIT);
		if (length < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		half->eof = length <= 0;
		half->start = 0;
		half->end = length > 0 ? (size_t)length : 0;
	}
	if (half->start < half->end) {
		length = send(target, half->bytes + half->start, half->end - half->start, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (length < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (length < 0) {
			/* It takes no more, but what it sent before, such as the reason, still has to get out. */
			half->eof = half->shut = true;
			half->start = half->end;
			shutdown(source, SHUT_RD);
			return;
		}
		half->start += (size_t)length;
	}
	if (half->eof && half->start == half->end && !half->shut) {
		half->shut = true;
		shutdown(target, SHUT_WR);
	}
}

static bool arrange(struct relay *relay)
{
	for (int i = 0; i < 2; i++) {
		struct half *outgoing = &relay->half[i];
		struct half *incoming = &relay->half[1 - i];
		uint32_t events = 0;

		if (outgoing->start == outgoing->end && !outgoing->eof)
			events |= EPOLLIN;
		if (incoming->start < incoming->end)
			events |= EPOLLOUT;
		/* With nothing to wait for but its end, a side that is gone must still be noticed. */
		if (!watch_set(&relay->side[i], events ? events : EPOLLERR))
			return false;
	}
	return true;
}

static void relay_ready(struct relay *relay, int side, uint32_t events)
{
	struct half *outgoing = &relay->half[side];
	bool gone = events & (EPOLLHUP | EPOLLERR); /* it neither sends nor takes any more */

	pump(relay, side);
	pump(relay, 1 - side);
	if (relay->half[0].shut && relay->half[1].shut) {
		relay_end(relay);
	} else if (gone && outgoing->start < outgoing->end) {
		/* What it sent before has to get out first; until then it would be reported again and again. */
		watch_set(&relay->side[side], 0);
		if (!watch_set(&relay->side[1 - side], EPOLLOUT))
			relay_end(relay);
	} else if ((gone && outgoing->eof) || !arrange(relay)) {
		relay_end(relay);
	}
}

static void first_ready(struct watch *watch, uint32_t events)
{
	relay_ready(CONTAINER_OF(watch, struct relay, side[0]), 0, events);
}

static void second_ready(struct watch *watch, uint32_t events)
{
	relay_ready(CONTAINER_OF(watch, struct relay, side[1]), 1, events);
}

bool relay_start(int a, int b)
{
	struct relay *relay = relay_count < RELAYS_MAX ? loop_alloc(sizeof(*relay)) : NULL;

	if (!relay || !set_blocking(a, false) || !set_blocking(b, false)) {
		close(a);
		close(b);
		if (relay)
			loop_free(relay);
		return false;
	}
	relay_count++;
	watch_start(&relay->side[0], a, first_ready);
	watch_start(&relay->side[1], b, second_ready);
	if (arrange(relay))
		return true;
	relay_end(relay);
	return false;
}
