/* One thread's event loop: descriptors by epoll, timers, and memory that outlives the events at hand. */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

struct watch {
	int fd; /* owned; -1 when closed */
	uint32_t events; /* waited for, 0 when none are */
	void (*ready)(struct watch *watch, uint32_t events);
};

struct timer {
	uint64_t at; /* ms of CLOCK_MONOTONIC */
	bool set;
	struct timer *next;
	void (*expired)(struct timer *timer);
};

void loop_start(void);
void loop_run(void); /* until loop_stop */
void loop_stop(void);

/* Zeroed memory for what holds watches; freed only after the events at hand, some of which may still point into it. */
void *loop_alloc(size_t size);
void loop_free(void *memory);

void watch_start(struct watch *watch, int fd, void (*ready)(struct watch *, uint32_t));
bool watch_set(struct watch *watch, uint32_t events); /* level-triggered; 0 is none, not even errors */
void watch_close(struct watch *watch);

void timer_set(struct timer *timer, unsigned ms, void (*expired)(struct timer *));
void timer_clear(struct timer *timer);

#endif
