/* Runs in a container that may trace: looks at what every other process of it holds, and says what is the host's. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int seen;

static void look_at(int pid) {
    char path[64], target[PATH_MAX];
    struct stat own, its;
    DIR *fds;
    struct dirent *entry;
    int exe;
    snprintf(path, sizeof path, "/proc/%d/root/", pid);
    if (stat("/", &own) == 0 && stat(path, &its) == 0 && (own.st_dev != its.st_dev || own.st_ino != its.st_ino))
        printf("root of another\n");
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    exe = open(path, O_WRONLY);
    if (exe >= 0) {
        printf("writable program\n");
        close(exe);
    }
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    fds = opendir(path);
    while (fds && (entry = readdir(fds))) {
        ssize_t size = readlinkat(dirfd(fds), entry->d_name, target, sizeof target - 1);
        if (size <= 0) continue;
        target[size] = 0;
        seen++;
        if (strncmp(target, "pipe:", 5) && strcmp(target, "/") && strcmp(target, "/dev/null") &&
            strncmp(target, "/etc/", 5) && strncmp(target, "/sys/", 5)) /* the container's own */
            printf("descriptor %s\n", target);
    }
    if (fds) closedir(fds);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("looking\n");
    while (access("/stop", F_OK)) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while (proc && (entry = readdir(proc))) {
            int pid = atoi(entry->d_name);
            if (pid > 1) look_at(pid);
        }
        if (proc) closedir(proc);
    }
    printf("seen %d\n", seen);
    return 0;
}
