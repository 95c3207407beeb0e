/*
 * Processes as /proc shows them: hanging up a session, and ending everything.
 */
#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KILL_MS = 5000, HANGUPS_MAX = 1024, PROCESSES_MAX = 65536 };

struct process {
	pid_t pid, parent, group, session;
	bool ignores_hangup;
};

struct hangup {
	pid_t session, foreground; /* foreground: 0 without a terminal */
	struct timer deadline;
	struct hangup *next;
};

/* Fields 3 to 33 of /proc/PID/stat: the state; parent, group and session; ...; the signals that it ignores. */
#define TEN_NUMBERS " %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s"
#define FIELDS " %*c %d %d %d" TEN_NUMBERS TEN_NUMBERS " %*s %*s %*s %*s %*s %*s %lu"

static struct hangup *hangups;
static int hangup_count;

/* The start of /proc/PID/stat as a string. */
static bool read_stat(pid_t pid, char *buffer, size_t size)
{
	char path[64];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	length = read(fd, buffer, size - 1);
	close(fd);
	buffer[length > 0 ? length : 0] = 0;
	return length > 0;
}

static bool read_process(pid_t pid, struct process *process)
{
	char buffer[2048]; /* a name of 64 bytes and 51 numbers of 20 digits fit */
	char *after;
	int parent, group, session;
	unsigned long ignored;

	if (!read_stat(pid, buffer, sizeof(buffer)))
		return false;
	/* The program's name, in brackets, may hold anything; what follows its last bracket is numbers. */
	after = strrchr(buffer, ')');
	if (!after || sscanf(after + 1, FIELDS, &parent, &group, &session, &ignored) != 4)
		return false;
	*process = (struct process){pid, parent, group, session, ignored & (1UL << (SIGHUP - 1))};
	return true;
}

static void each_process(void (*see)(const struct process *process, void *context), void *context)
{
	DIR *directory = opendir("/proc");
	struct dirent *entry;
	struct process process;

	while (directory && (entry = readdir(directory)))
		if (isdigit((unsigned char)entry->d_name[0]) && read_process(atoi(entry->d_name), &process))
			see(&process, context);
	if (directory)
		closedir(directory);
}

/* --- hang-up --- */

static void kill_if_left(const struct process *process, void *context)
{
	const struct hangup *hangup = context;
	/* A job of the background is its shell's, which has hung it up too, unless it was disowned. */
	bool told = !hangup->foreground || process->group == hangup->session || process->group == hangup->foreground;

	if (process->session == hangup->session && told && !process->ignores_hangup)
		kill(process->pid, SIGKILL);
}

static void hangup_end(struct hangup *hangup)
{
	for (struct hangup **link = &hangups; *link; link = &(*link)->next) {
		if (*link == hangup) {
			*link = hangup->next;
			break;
		}
	}
	hangup_count--;
	timer_clear(&hangup->deadline);
	loop_free(hangup);
}

static void hangup_late(struct timer *timer)
{
	struct hangup *hangup = CONTAINER_OF(timer, struct hangup, deadline);

	each_process(kill_if_left, hangup);
	hangup_end(hangup);
}

void hang_up(pid_t session, pid_t foreground)
{
	struct hangup *hangup = hangup_count < HANGUPS_MAX ? loop_alloc(sizeof(*hangup)) : NULL;

	kill(-session, SIGHUP);
	kill(-session, SIGCONT); /* a stopped one has to hear it */
	if (!hangup)
		return;
	hangup->session = session;
	hangup->foreground = foreground;
	hangup->next = hangups;
	hangups = hangup;
	hangup_count++;
	timer_set(&hangup->deadline, KILL_MS, hangup_late);
}

void hang_up_forget(pid_t session)
{
	struct hangup *next;

	for (struct hangup *hangup = hangups; hangup; hangup = next) {
		next = hangup->next;
		if (hangup->session == session)
			hangup_end(hangup);
	}
}

/* --- all --- */

struct census {
	struct process *processes;
	size_t count;
};

static void count_in(const struct process *process, void *context)
{
	struct census *census = context;

	if (census->count < PROCESSES_MAX)
		census->processes[census->count++] = *process;
}

/* Those that descend from the agent; orphans do, because it adopts them. */
static void signal_descendants(int signal)
{
	struct census census = {.processes = malloc(PROCESSES_MAX * sizeof(struct process))};
	pid_t self = getpid();
	bool more = true;

	if (!census.processes)
		return;
	each_process(count_in, &census);
	while (more) {
		more = false;
		for (size_t i = 0; i < census.count; i++) {
			struct process *child = &census.processes[i];

			if (child->parent != self)
				continue;
			kill(child->pid, signal);
			child->parent = -1;
			more = true;
			for (size_t j = 0; j < census.count; j++)
				if (census.processes[j].parent == child->pid)
					census.processes[j].parent = self;
		}
	}
	free(census.processes);
}

void signal_all(int signal)
{
	if (agent.init)
		kill(-1, signal);
	else
		signal_descendants(signal);
}
