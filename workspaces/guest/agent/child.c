/*
 * What happens between fork and exec in the child of a session: descriptors, terminal, user, environment, program.
 *
 * The image's files are read here, where a FIFO in place of /etc/passwd hangs nobody else.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "users.h"

enum { STATUS = 3, INHERITED_MAX = 512, OWN_MAX = 16 };

static char *environment[INHERITED_MAX + OWN_MAX + ENV_MAX + 1];
static size_t environment_count;

static _Noreturn __attribute__((format(printf, 2, 3))) void give_up(int error, const char *format, ...)
{
	struct spawn_failure failure = {.error = error};
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(failure.text, sizeof(failure.text), format, arguments);
	va_end(arguments);
	while (write(STATUS, &failure, sizeof(failure)) < 0 && errno == EINTR)
		;
	_exit(127);
}

/* Takes `entry` (NAME=value) into the environment, instead of one of the same name; it is not copied. */
static void put(char *entry)
{
	size_t length = (size_t)(strchrnul(entry, '=') - entry);

	for (size_t i = 0; i < environment_count; i++) {
		if (strncmp(environment[i], entry, length) == 0 && environment[i][length] == '=') {
			environment[i] = entry;
			return;
		}
	}
	if (environment_count < sizeof(environment) / sizeof(environment[0]) - 1)
		environment[environment_count++] = entry;
}

static __attribute__((format(printf, 1, 2))) void put_new(const char *format, ...)
{
	va_list arguments;
	char *entry;

	va_start(arguments, format);
	if (vasprintf(&entry, format, arguments) >= 0)
		put(entry);
	va_end(arguments);
}

static const char *get(const char *name)
{
	size_t length = strlen(name);

	for (size_t i = 0; i < environment_count; i++)
		if (strncmp(environment[i], name, length) == 0 && environment[i][length] == '=')
			return environment[i] + length + 1;
	return NULL;
}

static void build_environment(const struct message *message, const struct user *user)
{
	const char *path;

	for (size_t i = 0; environ[i] && i < INHERITED_MAX; i++)
		if (strchr(environ[i], '='))
			put(environ[i]);
	path = get("PATH");
	put_new("HOME=%s", user->home);
	put_new("USER=%s", user->name);
	put_new("LOGNAME=%s", user->name);
	put_new("SHELL=%s", user->shell);
	put_new("PATH=%s/bin:%s", agent.guest, path ? path : DEFAULT_PATH);
	/* /etc/profile sets PATH anew: what brings `snapshot` back in sh (a file to read) and bash (a function). */
	put_new("ENV=%s/env.sh", agent.guest);
	if (!strchr(agent.guest, '\''))
		put_new("BASH_FUNC_snapshot%%%%=() {  '%s/bin/snapshot' \"$@\"; }", agent.guest);
	if (strcmp(agent.socket_path, DEFAULT_SOCKET) != 0)
		put_new(SOCKET_VARIABLE "=%s", agent.socket_path);
	if (message->pty && ttyname(0))
		put_new("SSH_TTY=%s", ttyname(0));
	for (uint32_t i = 0; i < message->envc; i++)
		put((char *)(uintptr_t)message->env[i]);
	environment[environment_count] = NULL;
}

static void take_terminal(const struct user *user)
{
	if (ioctl(0, TIOCSCTTY, 0))
		give_up(errno, "The terminal cannot be taken: %s.", error_text(errno));
	/* Group tty stays as devpts set it. Without root's rights the terminal is ours already. */
	if (geteuid() == 0 && (fchown(0, user->uid, (gid_t)-1) || fchmod(0, 0620)))
		give_up(errno, "The terminal cannot be given to %s: %s.", user->name, error_text(errno));
}

static void enter_directory(const char *cwd, const char *home)
{
	if (*cwd) {
		if (chdir(cwd))
			give_up(errno, "The directory %.200s cannot be entered: %s.", cwd, error_text(errno));
	} else if (chdir(home)) {
		/* As sshd does it: say so, and let the person in. */
		dprintf(2, "Could not chdir to home directory %s: %s\n", home, error_text(errno));
		if (chdir("/"))
			give_up(errno, "The directory / cannot be entered: %s.", error_text(errno));
	}
}

/* Returns when it cannot, with errno. */
static void try_shell(const char *shell, const char *command)
{
	const char *slash = strrchr(shell, '/');
	char name[300];
	char *login[] = {name, NULL};
	char *with_command[] = {name, "-c", (char *)(uintptr_t)command, NULL};

	snprintf(name, sizeof(name), "%s%s", command ? "" : "-", slash ? slash + 1 : shell);
	execve(shell, command ? with_command : login, environment);
}

static _Noreturn void run_shell(const char *shell, const char *command)
{
	int error;

	try_shell(shell, command);
	error = errno;
	if (error != E2BIG)
		try_shell("/bin/sh", command); /* somebody removed or broke the shell: let them in to repair it */
	if (error == ENOENT)
		give_up(error, "The image has no %s.", shell);
	give_up(error, "%s cannot be run: %s.", shell, error_text(error));
}

_Noreturn void spawn_child(const struct message *message, const int stdio[3], int status, bool pty)
{
	struct user user;

	/* The descriptors passed are above 2, which the agent keeps open: none is overwritten before its turn. */
	for (int i = 0; i < 3; i++)
		if (dup2(stdio[i], i) < 0)
			_exit(127);
	if (status != STATUS ? dup3(status, STATUS, O_CLOEXEC) < 0 : fcntl(status, F_SETFD, FD_CLOEXEC) < 0)
		_exit(127);
	child_clean();
	for (int i = 0; i < 3 && !pty; i++)
		set_blocking(i, true);
	setsid();
	umask(022);
	if (!user_find(message->user, &user))
		give_up(ENOENT, "The image has no user %.64s.", message->user);
	if (pty)
		take_terminal(&user);
	build_environment(message, &user);
	if (!user_become(&user))
		give_up(errno, "The user %s cannot be taken: %s.", user.name, error_text(errno));
	enter_directory(message->cwd, user.home);
	if (message->kind != SPAWN_ARGV)
		run_shell(user.shell, message->kind == SPAWN_COMMAND ? message->argv[0] : NULL);
	environ = environment;
	execvp(message->argv[0], (char **)(uintptr_t)message->argv);
	if (errno == ENOENT)
		give_up(errno, "The image has no %.200s.", message->argv[0]);
	give_up(errno, "%.200s cannot be run: %s.", message->argv[0], error_text(errno));
}
