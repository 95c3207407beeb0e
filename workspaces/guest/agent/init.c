/*
 * `agent init SOCKET`: process 1. Listens, accepts, reaps, and ends everything when told to.
 *
 * SIGTERM (`docker stop`): SIGHUP and SIGTERM to all, SIGKILL to what is left after GRACE_MS, then exit 0.
 * As a plain process, in tests, it adopts orphans as a subreaper and ends when its parent does.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"

enum { GRACE_MS = 3000, PAUSE_MS = 100, LOOK_MS = 2000, BACKLOG = 128, FILES_WANTED = 8192 };

struct agent agent;

static struct child *children;
static struct watch listening, signals, parent;
static struct timer grace, pause_end, look;
static dev_t socket_device;
static ino_t socket_inode;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
	exit(1);
}

pid_t child_fork(struct child *child, void (*exited)(struct child *, int))
{
	pid_t pid = fork();

	if (pid > 0) {
		hang_up_forget(pid);
		*child = (struct child){.pid = pid, .exited = exited, .next = children};
		children = child;
	}
	return pid;
}

void child_forget(struct child *child)
{
	for (struct child **link = &children; *link; link = &(*link)->next) {
		if (*link == child) {
			*link = child->next;
			break;
		}
	}
	child->pid = 0;
}

void child_clean(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setrlimit(RLIMIT_NOFILE, &agent.files);
	close_from(4);
}

static void told(pid_t pid, int status)
{
	for (struct child *child = children; child; child = child->next) {
		if (child->pid == pid) {
			child_forget(child);
			child->exited(child, status);
			return;
		}
	}
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		told(pid, status);
	if (agent.stopping && pid < 0 && errno == ECHILD)
		loop_stop();
}

static void grace_over(struct timer *timer)
{
	signal_all(SIGKILL);
	/* Once more and not for ever: a process in uninterruptible sleep stays; the kernel ends it with us. */
	if (agent.stopping++ < 3)
		timer_set(timer, PAUSE_MS, grace_over);
	else
		loop_stop();
}

static void stop(void)
{
	if (agent.stopping)
		return;
	agent.stopping = 1;
	timer_clear(&look);
	timer_clear(&pause_end);
	watch_close(&listening);
	unlink(agent.socket_path);
	signal_all(SIGHUP);
	signal_all(SIGTERM);
	signal_all(SIGCONT);
	timer_set(&grace, GRACE_MS, grace_over);
	reap();
}

static void signals_ready(struct watch *watch, uint32_t events)
{
	struct signalfd_siginfo info;
	bool terminate = false;

	(void)events;
	while (read(watch->fd, &info, sizeof(info)) == sizeof(info))
		terminate |= info.ssi_signo != SIGCHLD;
	reap();
	if (terminate)
		stop();
}

static void parent_ended(struct watch *watch, uint32_t events)
{
	(void)events;
	watch_close(watch);
	stop();
}

static void accept_again(struct timer *timer)
{
	(void)timer;
	watch_set(&listening, EPOLLIN);
}

static void listening_ready(struct watch *watch, uint32_t events)
{
	(void)events;
	for (int i = 0; i < BACKLOG; i++) {
		int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			conn_accept(fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			/* It would be reported again at once: let somebody else free something first. */
			watch_set(watch, 0);
			timer_set(&pause_end, PAUSE_MS, accept_again);
		}
		return;
	}
}

/* False with errno. */
static bool socket_open(void)
{
	struct sockaddr_un address;
	struct stat status;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return false;
	if (!unix_address(agent.socket_path, &address)) {
		close(fd);
		return false;
	}
	unlink(agent.socket_path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || chmod(agent.socket_path, 0666) ||
	    lstat(agent.socket_path, &status) || listen(fd, BACKLOG)) {
		close(fd);
		return false;
	}
	socket_device = status.st_dev;
	socket_inode = status.st_ino;
	watch_start(&listening, fd, listening_ready);
	return watch_set(&listening, EPOLLIN);
}

/*
 * `rm -rf /` takes the socket along; the next login must still get in, to be told what is missing. A look now and
 * then, because inotify's instances are limited for all containers of the host together.
 */
static void look_after(struct timer *timer)
{
	struct stat status;

	if (lstat(agent.socket_path, &status) || status.st_dev != socket_device || status.st_ino != socket_inode) {
		watch_close(&listening);
		timer_clear(&pause_end);
		socket_open();
	}
	timer_set(timer, LOOK_MS, look_after);
}

static void make_directory(void)
{
	char path[PATH_MAX];
	char *slash;

	snprintf(path, sizeof(path), "%s", agent.socket_path);
	slash = strrchr(path, '/');
	if (slash && slash != path) {
		*slash = 0;
		mkdir(path, 0755);
	}
}

static void be_plain(void)
{
	pid_t pid = getppid();
	int fd;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* PR_SET_PDEATHSIG would fire when the thread that started us ends, not its process. */
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0 || getppid() != pid)
		die("the process that started the agent is gone");
	watch_start(&parent, fd, parent_ended);
	watch_set(&parent, EPOLLIN);
}

int init_main(const char *socket_path)
{
	struct rlimit files;
	sigset_t mask;

	agent.init = getpid() == 1;
	agent.socket_path = socket_path;
	umask(022);
	for (int fd = open("/dev/null", O_RDWR); fd < 3; fd = open("/dev/null", O_RDWR))
		if (fd < 0)
			die("/dev/null");
	close_from(3);
	getrlimit(RLIMIT_NOFILE, &agent.files);
	files = agent.files;
	if (files.rlim_cur < FILES_WANTED)
		files.rlim_cur = files.rlim_max < FILES_WANTED ? files.rlim_max : FILES_WANTED;
	setrlimit(RLIMIT_NOFILE, &files);
	own_directory(agent.guest, sizeof(agent.guest));
	if (!confine()) {
		fprintf(stderr, "agent: the kernel takes no seccomp filter: %s\n", strerror(errno));
		if (agent.init)
			return 1;
	}
	loop_start();

	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	watch_start(&signals, signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK), signals_ready);
	if (signals.fd < 0 || !watch_set(&signals, EPOLLIN))
		die("signalfd");
	watch_start(&parent, -1, parent_ended);
	if (!agent.init)
		be_plain();
	make_directory();
	if (!socket_open())
		die(socket_path);
	timer_set(&look, LOOK_MS, look_after);
	loop_run();
	return 0;
}
