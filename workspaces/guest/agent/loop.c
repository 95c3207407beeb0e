/*
 * See loop.h. Few timers run at a time, so a sorted list holds them.
 *
 * What epoll holds is counted for each user of the host, and the roots of all containers may be the same one there: a
 * hostile workspace can use up the room of the others. What epoll has no room for is polled, together with epoll.
 */
#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Stands before each block of loop_alloc's. */
struct garbage {
	struct garbage *next;
	max_align_t block[];
};

enum { AT_ONCE = 64, POLLED_MAX = 4096 }; /* more than connections, sessions, relays and listeners can be */

static int epoll = -1;
static struct watch *polled[POLLED_MAX];
static int polled_count;
static bool running;
static struct timer *timers;
static struct garbage *garbage;

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void loop_start(void)
{
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0) {
		perror("agent: epoll_create1");
		exit(1);
	}
}

void loop_stop(void)
{
	running = false;
}

void *loop_alloc(size_t size)
{
	struct garbage *entry = calloc(1, sizeof(*entry) + size);

	return entry ? entry->block : NULL;
}

void loop_free(void *memory)
{
	struct garbage *entry = CONTAINER_OF(memory, struct garbage, block);

	entry->next = garbage;
	garbage = entry;
}

static void collect(void)
{
	while (garbage) {
		struct garbage *next = garbage->next;

		free(garbage);
		garbage = next;
	}
}

static int run_timers(void)
{
	uint64_t now = now_ms();

	while (timers && timers->at <= now) {
		struct timer *timer = timers;

		timers = timer->next;
		timer->set = false;
		timer->expired(timer);
	}
	return timers ? (int)(timers->at - now) + 1 : -1;
}

/* What is ready, as epoll_wait gives it. */
static int wait_for_events(struct epoll_event events[POLLED_MAX + AT_ONCE], int timeout)
{
	static struct pollfd fds[POLLED_MAX + 1];
	int count = 0;
	int more;

	if (!polled_count)
		return epoll_wait(epoll, events, AT_ONCE, timeout);
	for (int i = 0; i < polled_count; i++)
		fds[i] = (struct pollfd){.fd = polled[i]->fd, .events = (short)polled[i]->events};
	fds[polled_count] = (struct pollfd){.fd = epoll, .events = POLLIN};
	if (poll(fds, (nfds_t)polled_count + 1, timeout) < 0)
		return -1;
	for (int i = 0; i < polled_count; i++)
		if (fds[i].revents)
			events[count++] = (struct epoll_event){.events = (uint32_t)fds[i].revents, .data.ptr = polled[i]};
	more = epoll_wait(epoll, events + count, AT_ONCE, 0);
	return more < 0 ? more : count + more;
}

void loop_run(void)
{
	static struct epoll_event events[POLLED_MAX + AT_ONCE];

	running = true;
	while (running) {
		int wait = run_timers();
		int count;

		collect();
		if (!running)
			break;
		count = wait_for_events(events, wait);
		if (count < 0 && errno != EINTR) {
			perror("agent: waiting for events");
			exit(1);
		}
		for (int i = 0; i < count; i++) {
			struct watch *watch = events[i].data.ptr;

			if (watch->fd >= 0 && watch->events)
				watch->ready(watch, events[i].events);
		}
		collect();
	}
	close(epoll);
}

void watch_start(struct watch *watch, int fd, void (*ready)(struct watch *, uint32_t))
{
	watch->fd = fd;
	watch->events = 0;
	watch->ready = ready;
}

/* False when it was not polled. */
static bool stop_polling(const struct watch *watch)
{
	for (int i = 0; i < polled_count; i++) {
		if (polled[i] == watch) {
			polled[i] = polled[--polled_count];
			return true;
		}
	}
	return false;
}

bool watch_set(struct watch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};
	bool in_epoll;
	int operation;

	if (watch->fd < 0 || watch->events == events)
		return true;
	in_epoll = watch->events && !stop_polling(watch);
	operation = !in_epoll ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
	if ((in_epoll || events) && epoll_ctl(epoll, operation, watch->fd, &event)) {
		if (operation != EPOLL_CTL_ADD || (errno != ENOSPC && errno != ENOMEM) || polled_count >= POLLED_MAX)
			return false;
		polled[polled_count++] = watch;
	}
	watch->events = events;
	return true;
}

void watch_close(struct watch *watch)
{
	if (watch->fd < 0)
		return;
	/* Explicitly: a forked child may hold the file open a moment longer, and epoll would go on reporting it. */
	watch_set(watch, 0);
	close(watch->fd);
	watch->fd = -1;
	watch->events = 0;
}

void timer_clear(struct timer *timer)
{
	if (!timer->set)
		return;
	for (struct timer **link = &timers; *link; link = &(*link)->next) {
		if (*link == timer) {
			*link = timer->next;
			break;
		}
	}
	timer->set = false;
}

void timer_set(struct timer *timer, unsigned ms, void (*expired)(struct timer *))
{
	struct timer **link = &timers;

	timer_clear(timer);
	timer->at = now_ms() + ms;
	timer->expired = expired;
	while (*link && (*link)->at <= timer->at)
		link = &(*link)->next;
	timer->next = *link;
	timer->set = true;
	*link = timer;
}
