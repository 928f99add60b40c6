/*
 * pam_mayfly: gives what enters a Mayfly session a mount namespace whose root is the session's tree.
 *
 * In a chroot the kernel creates no user namespaces (current_chrooted() in fs/namespace.c), so the sandboxes of browsers,
 * Flatpak and rootless containers fail there. "mayfly enable" adds this module to the PAM stacks of schroot, which enters
 * a session, and of systemd's user managers. The namespace belongs to the process that opens the PAM session, and to all
 * that it starts. schroot decides who may enter; a process that enters no session is left as it is.
 *
 * The session's tree stays mounted on the host. The new root is a copy of it, made before the namespace is unshared, and
 * both are peers: a mount in one appears in the other, and in all other namespaces of the session. Everything else of the
 * namespace is unmounted in it.
 *
 * The module runs as root in processes that a user has started. It takes nothing from the environment, starts no
 * program, and follows no symlink of the user's. The arguments of schroot name the session, but its ID begins with the
 * number of its user, which must be the caller's. If anything fails, the process keeps the tree of the host, and schroot
 * enters the session by chroot(2), as without this module.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

#include <security/pam_ext.h>
#include <security/pam_modules.h>
#include <security/pam_modutil.h>

#define ROOTS "/run/mayfly/roots/"

/* In the session's tree; see src/session/mount-namespace.ts. */
#define OLD_ROOT "run/mayfly/roots/.old"

/* The same on every architecture; not in the headers of every supported release. */
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 4
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

#define ID_MAX 48
#define ROOT_MAX (sizeof ROOTS + ID_MAX)

/* Whether text is a session ID, "u1000-0123abcd", of the user, or of anybody if that is root. */
static bool is_session(const char *text, uid_t user)
{
	if (text[0] != 'u' || !isdigit((unsigned char)text[1]))
		return false;
	char *end;
	const unsigned long uid = strtoul(text + 1, &end, 10);
	const char *random = end + (*end == '-');
	const size_t length = strspn(random, "0123456789abcdef");
	return *end == '-' && length > 0 && random[length] == '\0' && strlen(text) <= ID_MAX &&
	       (user == 0 || uid == user);
}

/*
 * The root of a session that is prepared for this; false for one of an earlier version. In a session, its own root is a
 * symlink. access(2) would ask for the caller, not for root.
 */
static bool find_root(const char *id, char root[ROOT_MAX])
{
	char place[ROOT_MAX + sizeof OLD_ROOT];
	snprintf(root, ROOT_MAX, ROOTS "%s", id);
	snprintf(place, sizeof place, "%s/" OLD_ROOT, root);
	struct stat found;
	return lstat(root, &found) == 0 && S_ISDIR(found.st_mode) && lstat(place, &found) == 0;
}

/* The letter of a long option that is understood, "--" left out, and its value after "="; 0 if it is another option. */
static char option_letter(const char *text, const char **value)
{
	static const struct {
		const char *name;
		char letter;
		bool has_value;
	} known[] = {
		{"chroot", 'c', true},	       {"directory", 'd', true}, {"preserve-environment", 'p', false},
		{"quiet", 'q', false},	       {"shell", 's', true},	 {"user", 'u', true},
		{"verbose", 'v', false},
	};
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		const size_t length = strlen(known[i].name);
		if (strncmp(text, known[i].name, length) != 0)
			continue;
		if (text[length] == '=' && known[i].has_value)
			*value = text + length + 1;
		if (text[length] == '\0' || *value != NULL)
			return known[i].letter;
	}
	return 0;
}

/*
 * The chroot that a command line of schroot(1) names; NULL if it is not certain that this is the only one. `words` has
 * `size` bytes and a zero after them; `whole`: nothing is cut off.
 *
 * schroot opens the PAM sessions for several chroots in one process, which sets them up, and cleans up after them, later.
 * In a session's namespace it would do so with the session's files, and would leave its mounts on the host. So only
 * options are understood with which schroot enters a chroot and does nothing else.
 */
static const char *named_chroot(const char *words, size_t size, bool whole)
{
	const char *found = NULL;
	const char *end = words + size;
	for (const char *word = words + strlen(words) + 1; word < end; word += strlen(word) + 1) {
		if (strcmp(word, "--") == 0)
			return found;
		if (word[0] != '-' || word[1] == '\0')
			continue; /* a part of the command, after which there may be more options */
		const char *value = NULL;
		const char *letter = word + 1 + strspn(word + 1, "pqv");
		char option = *letter;
		if (word[1] == '-')
			option = option_letter(word + 2, &value);
		else if (option == '\0')
			continue;
		else if (letter[1] != '\0')
			value = letter + 1;
		if (option == '\0' || strchr("cdpqsuv", option) == NULL)
			return NULL;
		if (strchr("pqv", option) != NULL)
			continue;
		if (value == NULL) {
			word += strlen(word) + 1;
			value = word;
		}
		if (word >= end || (option == 'c' && found != NULL))
			return NULL;
		if (option == 'c')
			found = value;
	}
	return whole ? found : NULL;
}

/* Finds the session that schroot was told to enter. Root may enter every session, others their own. */
static bool named_session(char root[ROOT_MAX])
{
	static char words[16384];
	const int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	const ssize_t size = read(fd, words, sizeof words - 1);
	close(fd);
	if (size <= 0)
		return false;
	words[size] = '\0';
	const char *name = named_chroot(words, (size_t)size, (size_t)size < sizeof words - 1);
	if (name != NULL && strncmp(name, "chroot:", 7) == 0)
		name += 7;
	return name != NULL && is_session(name, getuid()) && find_root(name, root);
}

/* Finds the session in which the service manager of a user starts: the target of a symlink of root's. */
static bool manager_session(pam_handle_t *pamh, char root[ROOT_MAX])
{
	const char *user;
	if (pam_get_user(pamh, &user, NULL) != PAM_SUCCESS)
		return false;
	const struct passwd *account = pam_modutil_getpwnam(pamh, user);
	if (account == NULL)
		return false;
	char path[64], target[ROOT_MAX];
	snprintf(path, sizeof path, "/run/mayfly/users/%u/root", (unsigned)account->pw_uid);
	const ssize_t size = readlink(path, target, sizeof target - 1);
	if (size < 0)
		return false;
	target[size] = '\0';
	const size_t prefix = strlen(ROOTS);
	return strncmp(target, ROOTS, prefix) == 0 && is_session(target + prefix, account->pw_uid) &&
	       find_root(target + prefix, root);
}

/* Goes to the directory with this path in the new root if the user may, because schroot starts commands there. */
static void go_to(const char *path)
{
	const int root = setfsuid(getuid());
	if (chdir(path) != 0) {
		/* The image or the session has no such directory; the working directory is "/". */
	}
	setfsuid((uid_t)root);
}

/* Makes a copy of the tree at `root` the root of a new namespace, and with it that of this process. */
static const char *enter(const char *root)
{
	const char *failed = NULL;
	char place[PATH_MAX];
	if (getcwd(place, sizeof place) == NULL || place[0] != '/')
		strcpy(place, "/");
	/* Before the namespace is unshared: only a copy of the host's own mounts is a peer of them. */
	int tree = (int)syscall(SYS_open_tree, AT_FDCWD, root,
				OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW);
	if (tree < 0)
		return "open_tree";
	if (unshare(CLONE_NEWNS) != 0)
		failed = "unshare";
	else if (mount("none", "/", NULL, MS_SLAVE | MS_REC, NULL) != 0)
		failed = "mount";
	else if (syscall(SYS_move_mount, tree, "", AT_FDCWD, root, MOVE_MOUNT_F_EMPTY_PATH) != 0)
		failed = "move_mount";
	else if (fchdir(tree) != 0)
		failed = "fchdir";
	else if (syscall(SYS_pivot_root, ".", OLD_ROOT) != 0)
		failed = "pivot_root";
	else if (umount2("/" OLD_ROOT, MNT_DETACH) != 0)
		failed = "umount2";
	const int error = errno;
	close(tree);
	go_to(place);
	errno = error;
	return failed;
}

int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags, (void)argc, (void)argv;
	const void *service = NULL;
	char root[ROOT_MAX];
	if (geteuid() != 0 || pam_get_item(pamh, PAM_SERVICE, &service) != PAM_SUCCESS || service == NULL)
		return PAM_IGNORE;
	const bool found = strcmp(service, "schroot") == 0	  ? named_session(root)
			   : strcmp(service, "systemd-user") == 0 ? manager_session(pamh, root)
								  : false;
	if (!found)
		return PAM_IGNORE;
	const char *failed = enter(root);
	if (failed == NULL)
		return PAM_SUCCESS;
	pam_syslog(pamh, LOG_ERR, "%s is entered by chroot only: %s: %m", root, failed);
	return PAM_IGNORE;
}

/* The namespace ends with its last process. */
int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_IGNORE;
}
