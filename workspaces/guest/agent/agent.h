/*
 * The guest agent's parts and what they know of each other.
 *
 *   gateway ──packet──► conn.c ──► spawn.c    start a process: child.c runs in the child, pty.c between tty and pipes
 *                              ├─► dial.c     connect: a helper child connects as the user, relay.c carries the bytes
 *                              ├─► listen.c   listen: a helper child binds as the user; each accepted one is relayed
 *                              └─► ask.c      attend, answer; and ask, from `snapshot` (client.c) inside
 *   kernel ──SIGCHLD──► init.c (reaping) ──► whoever registered the child
 *
 * All of it is one thread that never blocks: what may block happens in a forked child.
 */
#ifndef AGENT_H
#define AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "codec.h"
#include "loop.h"

#define DEFAULT_SOCKET "/dev/workspaces/run/agent.sock"
#define SOCKET_VARIABLE "WORKSPACES_SOCKET" /* set in sessions when the socket is another one (fast tests) */
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum {
	SESSIONS_MAX = 256,
	RELAYS_MAX = 512,
	LISTENERS_MAX = 64,
	ASKERS_MAX = 8,
	ATTENDANTS_MAX = 4,
	REPLY_MAX = 24 * 1024, /* bytes of any message that the agent sends, `asked` being the longest */
};

struct agent {
	bool init; /* process 1 of a container, not a plain process of a test */
	int stopping; /* 0 while it runs */
	const char *socket_path;
	char guest[256]; /* directory of this program, as the sessions see it */
	struct rlimit files; /* as found: the agent raises its own */
};

extern struct agent agent;

/* --- children (init.c) --- */

struct child {
	pid_t pid; /* 0 when none, or reaped */
	void (*exited)(struct child *child, int wait_status);
	struct child *next;
};

pid_t child_fork(struct child *child, void (*exited)(struct child *, int)); /* like fork; the child is registered */
void child_forget(struct child *child); /* still reaped, but nobody is told */
void child_clean(void); /* in the child: signals as a program expects them, no other descriptor than those below 4 */

int init_main(const char *socket_path);
bool confine(void); /* false with errno (confine.c) */

/* --- connections (conn.c) --- */

enum conn_state { CONN_NEW, CONN_SESSION, CONN_DIAL, CONN_LISTENER, CONN_ATTENDANT, CONN_ASKER };

struct conn {
	struct watch watch;
	struct timer idle;
	enum conn_state state;
	bool inside; /* a process of the container, which may only ask */
	uid_t uid; /* of the peer */
	void *owner;
	void (*closed)(struct conn *conn); /* tells the owner; nothing may be sent any more */
};

void conn_accept(int fd);
void conn_own(struct conn *conn, enum conn_state state, void *owner, void (*closed)(struct conn *));
bool conn_send(struct conn *conn, const struct writer *writer); /* false: it is closed now */
void conn_close(struct conn *conn);
void conn_fail(struct conn *conn, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
const char *error_text(int error);

/* --- what connections ask for; handlers own `fds` whose entries they set to -1 --- */

void spawn_request(struct conn *conn, const struct message *message, int *fds);
void spawn_resize(struct conn *conn, const struct message *message, int *fds);
void spawn_signal(struct conn *conn, const struct message *message, int *fds);
_Noreturn void spawn_child(const struct message *message, const int stdio[3], int status, bool pty);

struct spawn_failure {
	int error;
	char text[400];
};

void connect_request(struct conn *conn, const struct message *message, int *fds);
void listen_request(struct conn *conn, const struct message *message, int *fds);
void listen_accept(struct conn *conn, const struct message *message, int *fds);
void listen_reject(struct conn *conn, const struct message *message, int *fds);

void attend_request(struct conn *conn, const struct message *message, int *fds);
void attend_answer(struct conn *conn, const struct message *message, int *fds);
void ask_request(struct conn *conn, const struct message *message, int *fds);

/* --- terminals (pty.c) --- */

struct pty;

/* A new terminal in `*slave`, relayed between its master and two pipes, which it owns from success on. */
struct pty *pty_open(const struct message *message, int input, int output, int *slave);
void pty_resize(struct pty *pty, const struct term_size *size);
void pty_finish(struct pty *pty); /* the session's process has ended: what it wrote goes out, then end-of-file */
pid_t pty_close(struct pty *pty); /* hang up; gives the process group that had the foreground, or -1 */

/* --- sockets (relay.c) --- */

bool relay_start(int a, int b); /* owns both, even when it fails */

/* --- helper children: work that may block, done as a user (helper.c) --- */

struct helper_result {
	int error; /* errno, 0 is success */
	uint16_t port;
	char text[300]; /* a sentence when it failed */
};

struct helper {
	struct child child;
	struct watch watch;
	struct timer deadline;
	void (*done)(struct helper *helper, const struct helper_result *result, int fd); /* once; owns fd */
};

typedef int helper_work(const void *argument, struct helper_result *result); /* in the child; a descriptor or -1 */

bool helper_start(struct helper *helper, const char *user, helper_work *work, const void *argument, unsigned ms,
		  void (*done)(struct helper *, const struct helper_result *, int));
void helper_cancel(struct helper *helper);

helper_work connect_work, listen_work, unlink_work; /* argument: struct target (dial.c) */

struct target {
	uint8_t kind;
	uint16_t port;
	char host[300];
};

bool target_take(struct target *target, const struct message *message);
int resolve(const char *host, uint16_t port, struct sockaddr_storage *addresses, int capacity); /* resolve.c */

/* --- processes (process.c) --- */

/*
 * SIGHUP now, SIGKILL later for what neither left nor ignores SIGHUP; of a session with a terminal only its leader's
 * group and the one in the foreground, which is 0 without a terminal.
 */
void hang_up(pid_t session, pid_t foreground);
void hang_up_forget(pid_t session); /* the number names a new session */
void signal_all(int signal); /* every process of the container, or below the agent in a test */

/* --- programs inside --- */

int snapshot_main(int argc, char **argv);
int which_main(int argc, char **argv);
int sftp_main(int argc, char **argv);

#endif
