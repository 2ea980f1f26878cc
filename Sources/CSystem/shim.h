#ifndef APUS_CSYSTEM_H
#define APUS_CSYSTEM_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

// Everything here is what Swift's own C library module hides: variadic functions, GNU extensions, macros. _GNU_SOURCE stays
// undefined, because that module is built without it and clang merges both modules' structs: hence the direct system calls.

// epoll: the constants are an enum whose last member does not fit in int, so they are named again as uint32_t.
static const uint32_t apus_EPOLLIN = 0x001;
static const uint32_t apus_EPOLLOUT = 0x004;
static const uint32_t apus_EPOLLERR = 0x008;
static const uint32_t apus_EPOLLHUP = 0x010;
static const uint32_t apus_EPOLLRDHUP = 0x2000;
static const uint32_t apus_EPOLLONESHOT = 1u << 30;
static const uint32_t apus_EPOLLET = 1u << 31;

static inline int apus_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

static inline int apus_epoll_add(int epoll, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data = {.u64 = data}};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static inline int apus_epoll_modify(int epoll, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data = {.u64 = data}};
    return epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
}

static inline int apus_epoll_remove(int epoll, int fd) { return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, 0); }

// A non-blocking, close-on-exec event counter.
static inline int apus_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

// The accepted socket is non-blocking and closed on exec.
static inline int apus_accept(int fd) {
    return (int)syscall(SYS_accept4, fd, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static inline int apus_pipe(int ends[2]) { return (int)syscall(SYS_pipe2, ends, O_CLOEXEC); }

// At most 15 bytes of the name are kept.
static inline int apus_set_thread_name(const char *name) { return prctl(PR_SET_NAME, name, 0, 0, 0); }

static inline int apus_become_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

static inline int apus_set_parent_death_signal(int signal) { return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0); }

static inline int apus_set_dumpable(int dumpable) { return prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0); }

static inline pid_t apus_gettid(void) { return (pid_t)syscall(SYS_gettid); }

// The descriptor is close-on-exec and becomes readable when the process ends.
static inline int apus_pidfd_open(pid_t pid) {
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

static inline int apus_pidfd_send_signal(int pidfd, int signal) {
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, 0, 0);
}

// rlim64 of the system call is two 64-bit numbers on every architecture.
static const int apus_RLIMIT_AS = RLIMIT_AS;
static const int apus_RLIMIT_CPU = RLIMIT_CPU;
static const int apus_RLIMIT_NOFILE = RLIMIT_NOFILE;
static const int apus_RLIMIT_CORE = RLIMIT_CORE;

// Sets soft and hard limit of a process (0 = this one).
static inline int apus_prlimit_set(pid_t pid, int resource, uint64_t soft, uint64_t hard) {
    uint64_t limit[2] = {soft, hard};
    return (int)syscall(SYS_prlimit64, pid, resource, limit, 0);
}

static inline int apus_prlimit_get(pid_t pid, int resource, uint64_t *soft, uint64_t *hard) {
    uint64_t limit[2] = {0, 0};
    int result = (int)syscall(SYS_prlimit64, pid, resource, 0, limit);
    *soft = limit[0];
    *hard = limit[1];
    return result;
}

// Fills the whole buffer from the kernel's generator; 0, or -1 with errno.
static inline int apus_getrandom(void *buffer, size_t count) {
    unsigned char *next = (unsigned char *)buffer;
    while (count > 0) {
        ssize_t got = getrandom(next, count, 0);
        if (got < 0) {
            if (errno == EINTR) continue;
            return -1;
        }
        next += got;
        count -= (size_t)got;
    }
    return 0;
}

static inline int apus_exited(int status) { return WIFEXITED(status); }
static inline int apus_exit_code(int status) { return WEXITSTATUS(status); }
static inline int apus_signaled(int status) { return WIFSIGNALED(status); }
static inline int apus_term_signal(int status) { return WTERMSIG(status); }

extern char **environ;
static inline char *const *apus_environ(void) { return environ; }

static inline int apus_spawn_chdir(posix_spawn_file_actions_t *actions, const char *path) {
    return posix_spawn_file_actions_addchdir_np(actions, path);
}

static inline int apus_spawn_close_from(posix_spawn_file_actions_t *actions, int lowest) {
    return posix_spawn_file_actions_addclosefrom_np(actions, lowest);
}

// A file without a name, in memory, close-on-exec.
static inline int apus_memory_file(const char *name) { return (int)syscall(SYS_memfd_create, name, 1u); }

// Ask for an exclusive lock on the whole file without waiting: 0, or -1 with errno EWOULDBLOCK when another has it.
static inline int apus_lock_file(int fd) { return flock(fd, LOCK_EX | LOCK_NB); }

static inline int apus_open(const char *path, int flags, mode_t mode) { return open(path, flags | O_CLOEXEC, mode); }

// Constants of sys/socket.h belong to whichever module meets the header first, which differs between builds.
static inline int apus_shutdown(int fd) { return shutdown(fd, SHUT_RDWR); }
static inline int apus_shutdown_writing(int fd) { return shutdown(fd, SHUT_WR); }
static const int apus_no_signal = MSG_NOSIGNAL;

// Has a TCP connection break within half a minute when the other machine is gone, or the wire: 0, or -1 with errno.
static inline int apus_keep_alive(int fd) {
    int on = 1, idle = 10, interval = 5, count = 3, milliseconds = 30000;
    if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) != 0) return -1;
    if (setsockopt(fd, IPPROTO_TCP, 4 /* TCP_KEEPIDLE */, &idle, sizeof idle) != 0) return -1;
    if (setsockopt(fd, IPPROTO_TCP, 5 /* TCP_KEEPINTVL */, &interval, sizeof interval) != 0) return -1;
    if (setsockopt(fd, IPPROTO_TCP, 6 /* TCP_KEEPCNT */, &count, sizeof count) != 0) return -1;
    return setsockopt(fd, IPPROTO_TCP, 18 /* TCP_USER_TIMEOUT */, &milliseconds, sizeof milliseconds);
}

// A socket that is connected to the unix socket at `path`, or listens there (then the file is made anew, for its owner
// alone): the descriptor, close-on-exec, or -1 with errno.
static inline int apus_unix_socket(const char *path, int listens) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    int done;
    if (listens) {
        if (unlink(path) != 0 && errno != ENOENT) {
            done = -1;
        } else {
            done = bind(fd, (struct sockaddr *)&address, sizeof address);
            if (done == 0) done = listen(fd, 64);
        }
    } else {
        // Never waits: where nobody accepts any more it fails.
        int flags = fcntl(fd, F_GETFL);
        done = flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        if (done == 0) done = connect(fd, (struct sockaddr *)&address, sizeof address);
    }
    if (done == 0) return fd;
    int code = errno;
    close(fd);
    errno = code;
    return -1;
}
static inline int apus_set_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static inline int apus_set_blocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

// How long a read on a socket that blocks may take.
static inline int apus_receive_timeout(int fd, int seconds) {
    struct timeval limit = {.tv_sec = seconds};
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

static inline int apus_set_close_on_exec(int fd) { return fcntl(fd, F_SETFD, FD_CLOEXEC); }

// Reserves blocks for a file without changing what is in it; extends its size.
static inline int apus_allocate(int fd, int64_t length) { return (int)syscall(SYS_fallocate, fd, 0, (int64_t)0, length); }

// The same, leaving the size as it is.
static inline int apus_allocate_keeping_size(int fd, int64_t length) {
    return (int)syscall(SYS_fallocate, fd, 1, (int64_t)0, length);
}

// Gives the blocks of a part back: it reads as zeros, and the size stays.
static inline int apus_punch_hole(int fd, int64_t offset, int64_t length) {
    return (int)syscall(SYS_fallocate, fd, 3, offset, length);
}

// Makes the whole target share the source's blocks, where the file system can: 0, or -1 with errno.
static inline int apus_clone_file(int target, int source) { return ioctl(target, 0x40049409ul, source); }

// Copies inside the kernel; bytes copied, 0 at the source's end, or -1 with errno.
static inline int64_t apus_copy_range(int source, int target, int64_t offset, int64_t length) {
    int64_t from = offset, to = offset;
    return syscall(SYS_copy_file_range, source, &from, target, &to, (size_t)length, 0u);
}

// Where the next data, or the next hole, at or after `offset` begins; -1 with errno ENXIO beyond the last data.
static inline int64_t apus_seek_data(int fd, int64_t offset) { return lseek(fd, offset, 3); }
static inline int64_t apus_seek_hole(int fd, int64_t offset) { return lseek(fd, offset, 4); }

// The terminal's width in columns, 0 when the descriptor is no terminal.
static inline int apus_terminal_columns(int fd) {
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

// The kernel's magic number of the file system that `path` is on; 0 with errno when it cannot be told.
static inline int64_t apus_file_system_kind(const char *path) {
    struct statfs status;
    return statfs(path, &status) == 0 ? (int64_t)status.f_type : 0;
}

// Only packets that come in by the device reach the socket: 0, or -1 with errno.
static inline int apus_bind_to_device(int fd, const char *device) {
    return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)(strlen(device) + 1));
}

static inline int apus_interface_request(const char *label, struct ifreq *request) {
    memset(request, 0, sizeof *request);
    if (strlen(label) >= sizeof request->ifr_name) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(request->ifr_name, label);
    return 0;
}

// Gives a device one more IPv4 address, of no network, under a label of the device's name, a colon and a word: 0, or -1
// with errno.
static inline int apus_add_address(const char *label, const char *address) {
    struct ifreq request;
    if (apus_interface_request(label, &request) != 0) return -1;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    struct sockaddr_in *slot = (struct sockaddr_in *)&request.ifr_addr;
    slot->sin_family = AF_INET;
    int done = inet_pton(AF_INET, address, &slot->sin_addr) == 1 ? ioctl(fd, SIOCSIFADDR, &request) : -1;
    if (done == 0) {
        slot->sin_addr.s_addr = 0xFFFFFFFFu;
        done = ioctl(fd, SIOCSIFNETMASK, &request);
    }
    int code = errno;
    close(fd);
    errno = code;
    return done;
}

// Takes the address of a label away again: 0, or -1 with errno.
static inline int apus_remove_address(const char *label) {
    struct ifreq request;
    if (apus_interface_request(label, &request) != 0) return -1;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    int done = ioctl(fd, SIOCGIFFLAGS, &request);
    if (done == 0) {
        request.ifr_flags = (short)(request.ifr_flags & ~IFF_UP);
        done = ioctl(fd, SIOCSIFFLAGS, &request);
    }
    int code = errno;
    close(fd);
    errno = code;
    return done;
}

// Whether a label has an IPv4 address: 1 or 0.
static inline int apus_has_address(const char *label) {
    struct ifreq request;
    if (apus_interface_request(label, &request) != 0) return 0;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return 0;
    int done = ioctl(fd, SIOCGIFADDR, &request);
    close(fd);
    return done == 0;
}

// The label under which an IPv4 address is on this machine, into `label` of `size` bytes: 1 when it is, 0 when it is not, -1
// with errno.
static inline int apus_find_address(const char *address, char *label, size_t size) {
    struct in_addr wanted;
    if (inet_pton(AF_INET, address, &wanted) != 1) {
        errno = EINVAL;
        return -1;
    }
    struct ifaddrs *list;
    if (getifaddrs(&list) != 0) return -1;
    int found = 0;
    for (struct ifaddrs *entry = list; entry; entry = entry->ifa_next) {
        if (!entry->ifa_addr || entry->ifa_addr->sa_family != AF_INET) continue;
        if (((struct sockaddr_in *)entry->ifa_addr)->sin_addr.s_addr != wanted.s_addr) continue;
        // One that is not ours tells more than one that is.
        if (!found || !strchr(entry->ifa_name, ':')) snprintf(label, size, "%s", entry->ifa_name);
        found = 1;
    }
    freeifaddrs(list);
    return found;
}

// Locks, or frees, a range of an open file, of that open file's own, without waiting. 37 is F_OFD_SETLK.
static inline int apus_try_lock(int descriptor, struct flock *range) { return fcntl(descriptor, 37, range); }

// Finds a lock that excludes the given one; its type becomes F_UNLCK where there is none. 36 is F_OFD_GETLK.
static inline int apus_find_lock(int descriptor, struct flock *range) { return fcntl(descriptor, 36, range); }

#endif
