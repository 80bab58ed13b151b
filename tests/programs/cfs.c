/*
 * A guest program of the system tests: what C programs do to a filesystem through libc, each
 * thing a check of its own.
 *
 *     cfs ROOT
 *
 * Works in ROOT/cfs, which it makes and removes. Prints "ok NAME" for a check that passes;
 * "FAIL NAME: ..." on standard error, and status 1 in the end, for one that does not.
 *
 * Natively (cc -O2 cfs.c) or as a WASI command (scripts/wasi-cc -O2 cfs.c -o cfs.wasm).
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The directory of the check that runs, and its name. */
static char directory[3000];
static const char *check_name;

/* Ends the check that runs: each check returns whether it passed. */
#define REQUIRE(condition)                                                                   \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "FAIL %s: line %d: %s (errno %d: %s)\n", check_name, __LINE__,   \
                    #condition, errno, strerror(errno));                                     \
            return false;                                                                    \
        }                                                                                    \
    } while (0)

/* Requires a call to fail with this error number. */
#define REQUIRE_ERROR(call, number)                                                          \
    do {                                                                                     \
        errno = 0;                                                                           \
        REQUIRE((call) == -1);                                                               \
        REQUIRE(errno == (number));                                                          \
    } while (0)

/* The path of a name in the check's directory; four of them may be in use at a time. */
static const char *in(const char *name)
{
    static char paths[4][4096];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static bool put(const char *name, const char *content)
{
    int fd = open(in(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        return false;
    ssize_t length = (ssize_t)strlen(content);
    bool written = write(fd, content, (size_t)length) == length;
    return close(fd) == 0 && written;
}

static bool holds(const char *name, const char *content)
{
    char buffer[256];
    int fd = open(in(name), O_RDONLY);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, buffer, sizeof buffer);
    close(fd);
    return length == (ssize_t)strlen(content) && memcmp(buffer, content, (size_t)length) == 0;
}

static bool open_flags(void)
{
    REQUIRE_ERROR(open(in("f"), O_RDONLY), ENOENT);
    REQUIRE_ERROR(open(in("f"), O_WRONLY), ENOENT);
    int fd = open(in("f"), O_RDWR | O_CREAT | O_EXCL, 0644);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, "content", 7) == 7);
    REQUIRE(close(fd) == 0);
    REQUIRE_ERROR(close(fd), EBADF);
    REQUIRE_ERROR(open(in("f"), O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
    REQUIRE((fd = open(in("f"), O_RDWR | O_CREAT, 0644)) >= 0 && close(fd) == 0);
    REQUIRE(holds("f", "content"));
    REQUIRE((fd = open(in("f"), O_WRONLY | O_TRUNC)) >= 0 && close(fd) == 0);
    REQUIRE(holds("f", ""));
    REQUIRE_ERROR(open(in("f"), O_RDONLY | O_DIRECTORY), ENOTDIR);
    REQUIRE_ERROR(open(directory, O_WRONLY), EISDIR);
    REQUIRE((fd = open(directory, O_RDONLY | O_DIRECTORY)) >= 0 && close(fd) == 0);
    return true;
}

static bool open_nofollow(void)
{
    REQUIRE(put("f", "content"));
    REQUIRE(symlink("f", in("link")) == 0);
    REQUIRE(holds("link", "content"));
    REQUIRE_ERROR(open(in("link"), O_RDONLY | O_NOFOLLOW), ELOOP);
    return true;
}

static bool read_write_lseek(void)
{
    char buffer[16] = {0};
    int fd = open(in("f"), O_RDWR | O_CREAT, 0644);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, "0123456789", 10) == 10);
    REQUIRE(lseek(fd, 0, SEEK_CUR) == 10);
    REQUIRE(lseek(fd, 3, SEEK_SET) == 3);
    REQUIRE(read(fd, buffer, 4) == 4 && memcmp(buffer, "3456", 4) == 0);
    REQUIRE(lseek(fd, -2, SEEK_END) == 8);
    REQUIRE(read(fd, buffer, sizeof buffer) == 2 && memcmp(buffer, "89", 2) == 0);
    REQUIRE(read(fd, buffer, sizeof buffer) == 0);
    REQUIRE_ERROR(lseek(fd, -11, SEEK_END), EINVAL);
    REQUIRE(lseek(fd, 5, SEEK_END) == 15);
    REQUIRE(read(fd, buffer, 1) == 0);
    REQUIRE(write(fd, "x", 1) == 1);
    REQUIRE(lseek(fd, 10, SEEK_SET) == 10);
    REQUIRE(read(fd, buffer, sizeof buffer) == 6 && memcmp(buffer, "\0\0\0\0\0x", 6) == 0);
    REQUIRE(close(fd) == 0);
    return true;
}

static bool pread_pwrite(void)
{
    char buffer[16];
    int fd = open(in("f"), O_RDWR | O_CREAT, 0644);
    REQUIRE(fd >= 0);
    REQUIRE(pwrite(fd, "world", 5, 6) == 5);
    REQUIRE(pwrite(fd, "hello ", 6, 0) == 6);
    REQUIRE(lseek(fd, 0, SEEK_CUR) == 0);
    REQUIRE(pread(fd, buffer, 4, 7) == 4 && memcmp(buffer, "orld", 4) == 0);
    REQUIRE(pread(fd, buffer, sizeof buffer, 9) == 2);
    REQUIRE(pread(fd, buffer, sizeof buffer, 11) == 0);
    REQUIRE(pread(fd, buffer, sizeof buffer, 1 << 20) == 0);
    REQUIRE(lseek(fd, 0, SEEK_CUR) == 0);
    /* What pwrite wrote, read and lseek must see, and the other way round. */
    REQUIRE(read(fd, buffer, 5) == 5 && memcmp(buffer, "hello", 5) == 0);
    REQUIRE(write(fd, "-", 1) == 1);
    REQUIRE(pread(fd, buffer, 11, 0) == 11 && memcmp(buffer, "hello-world", 11) == 0);
    REQUIRE(close(fd) == 0);
    return true;
}

static bool readv_writev(void)
{
    char left[3], right[16];
    struct iovec out[] = {{"one", 3}, {"", 0}, {"two", 3}};
    struct iovec back[] = {{left, sizeof left}, {right, sizeof right}};
    int fd = open(in("f"), O_RDWR | O_CREAT, 0644);
    REQUIRE(fd >= 0);
    /* Short counts are allowed: WASI hosts take one vector at a time. */
    ssize_t written = writev(fd, out, 3);
    REQUIRE(written > 0 && written <= 6);
    REQUIRE(lseek(fd, 0, SEEK_SET) == 0);
    ssize_t length = readv(fd, back, 2);
    REQUIRE(length > 0 && length <= written);
    REQUIRE(memcmp(left, "one", 3) == 0);
    REQUIRE(length <= 3 || memcmp(right, "two", (size_t)length - 3) == 0);
    REQUIRE(close(fd) == 0);
    return true;
}

static bool append(void)
{
    REQUIRE(put("f", "start"));
    int left = open(in("f"), O_WRONLY | O_APPEND);
    int right = open(in("f"), O_RDWR | O_APPEND);
    REQUIRE(left >= 0 && right >= 0);
    REQUIRE(write(left, "-one", 4) == 4);
    REQUIRE(write(right, "-two", 4) == 4);
    REQUIRE(lseek(left, 0, SEEK_SET) == 0);
    REQUIRE(write(left, "-three", 6) == 6);
    REQUIRE(close(left) == 0 && close(right) == 0);
    REQUIRE(holds("f", "start-one-two-three"));
    return true;
}

static bool append_switched_on_by_fcntl(void)
{
    REQUIRE(put("f", "start"));
    int fd = open(in("f"), O_WRONLY);
    REQUIRE(fd >= 0);
    REQUIRE((fcntl(fd, F_GETFL) & O_APPEND) == 0);
    REQUIRE(fcntl(fd, F_SETFL, O_APPEND) == 0);
    REQUIRE((fcntl(fd, F_GETFL) & O_APPEND) != 0);
    REQUIRE(write(fd, "-end", 4) == 4);
    REQUIRE(close(fd) == 0);
    REQUIRE(holds("f", "start-end"));
    return true;
}

static bool large_file(void)
{
    enum { WORDS = 1 << 19 };
    unsigned *words = malloc(WORDS * sizeof *words);
    REQUIRE(words != NULL);
    for (unsigned i = 0; i < WORDS; i++)
        words[i] = i * 2654435761u;
    int fd = open(in("f"), O_RDWR | O_CREAT, 0644);
    REQUIRE(fd >= 0);
    for (size_t done = 0; done < WORDS * sizeof *words;) {
        ssize_t length = write(fd, (char *)words + done, WORDS * sizeof *words - done);
        REQUIRE(length > 0);
        done += (size_t)length;
    }
    for (unsigned i = 0; i < 200; i++) {
        unsigned index = i * 7919u * 331u % WORDS, word;
        REQUIRE(pread(fd, &word, sizeof word, (off_t)(index * sizeof word)) == sizeof word);
        REQUIRE(word == words[index]);
    }
    /* Past 4 GiB, where 32 bits are not enough. */
    off_t far = ((off_t)5 << 30) + 3;
    REQUIRE(pwrite(fd, "far", 3, far) == 3);
    REQUIRE(lseek(fd, 0, SEEK_END) == far + 3);
    char buffer[4];
    REQUIRE(pread(fd, buffer, 4, far - 1) == 4 && memcmp(buffer, "\0far", 4) == 0);
    REQUIRE(close(fd) == 0);
    free(words);
    return true;
}

static bool stat_fstat_lstat(void)
{
    struct stat by_path, by_fd, link;
    REQUIRE(put("f", "12345"));
    REQUIRE(symlink("f", in("link")) == 0);
    int fd = open(in("f"), O_RDONLY);
    REQUIRE(fd >= 0);
    REQUIRE(stat(in("f"), &by_path) == 0 && fstat(fd, &by_fd) == 0);
    REQUIRE(close(fd) == 0);
    REQUIRE(S_ISREG(by_path.st_mode) && by_path.st_size == 5 && by_path.st_nlink == 1);
    REQUIRE(by_path.st_ino == by_fd.st_ino && by_path.st_dev == by_fd.st_dev);
    REQUIRE(by_path.st_mtim.tv_sec == by_fd.st_mtim.tv_sec);
    REQUIRE(by_path.st_mtim.tv_nsec == by_fd.st_mtim.tv_nsec);
    REQUIRE(lstat(in("link"), &link) == 0);
    REQUIRE(S_ISLNK(link.st_mode) && link.st_size == 1);
    REQUIRE(stat(in("link"), &link) == 0);
    REQUIRE(S_ISREG(link.st_mode) && link.st_ino == by_path.st_ino);
    REQUIRE(stat(directory, &link) == 0 && S_ISDIR(link.st_mode));
    REQUIRE(link.st_ino != by_path.st_ino);
    REQUIRE_ERROR(stat(in("none"), &link), ENOENT);
    REQUIRE_ERROR(stat(in("f/x"), &link), ENOTDIR);
    REQUIRE_ERROR(fstat(fd, &link), EBADF);
    return true;
}

static bool truncation(void)
{
    int fd = open(in("f"), O_RDWR | O_CREAT, 0644);
    char buffer[16];
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, "0123456789", 10) == 10);
    REQUIRE(ftruncate(fd, 3) == 0);
    REQUIRE(ftruncate(fd, 6) == 0);
    REQUIRE(pread(fd, buffer, sizeof buffer, 0) == 6 && memcmp(buffer, "012\0\0\0", 6) == 0);
    REQUIRE(lseek(fd, 0, SEEK_CUR) == 10);
    REQUIRE(truncate(in("f"), 1) == 0);
    REQUIRE(pread(fd, buffer, sizeof buffer, 0) == 1);
    REQUIRE(close(fd) == 0);
    REQUIRE_ERROR(truncate(in("none"), 0), ENOENT);
    return true;
}

static bool syncing(void)
{
    int fd = open(in("f"), O_RDWR | O_CREAT, 0644);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, "a", 1) == 1 && fdatasync(fd) == 0);
    REQUIRE(write(fd, "b", 1) == 1 && fsync(fd) == 0);
    REQUIRE(close(fd) == 0);
    REQUIRE(holds("f", "ab"));
    return true;
}

static bool rename_files(void)
{
    REQUIRE(put("a", "new") && put("b", "old"));
    REQUIRE(rename(in("a"), in("b")) == 0);
    REQUIRE(holds("b", "new"));
    REQUIRE_ERROR(rename(in("a"), in("c")), ENOENT);
    REQUIRE(mkdir(in("d"), 0755) == 0);
    REQUIRE_ERROR(rename(in("b"), in("d")), EISDIR);
    REQUIRE_ERROR(rename(in("d"), in("b")), ENOTDIR);
    REQUIRE(rename(in("b"), in("d/b")) == 0);
    REQUIRE(rename(in("d"), in("e")) == 0);
    REQUIRE(holds("e/b", "new"));
    REQUIRE_ERROR(rename(in("e"), in("e/inside")), EINVAL);
    return true;
}

static bool unlink_files(void)
{
    char buffer[8];
    REQUIRE_ERROR(unlink(in("f")), ENOENT);
    REQUIRE(put("f", "content"));
    int fd = open(in("f"), O_RDWR);
    REQUIRE(fd >= 0);
    REQUIRE(unlink(in("f")) == 0);
    REQUIRE_ERROR(access(in("f"), F_OK), ENOENT);
    /* The open file lives on. */
    REQUIRE(pwrite(fd, "C", 1, 0) == 1);
    REQUIRE(pread(fd, buffer, sizeof buffer, 0) == 7 && memcmp(buffer, "Content", 7) == 0);
    REQUIRE(close(fd) == 0);
    REQUIRE(mkdir(in("d"), 0755) == 0);
    errno = 0;
    REQUIRE(unlink(in("d")) == -1 && (errno == EISDIR || errno == EPERM));
    return true;
}

static bool mkdir_rmdir(void)
{
    REQUIRE(mkdir(in("d"), 0755) == 0);
    REQUIRE_ERROR(mkdir(in("d"), 0755), EEXIST);
    REQUIRE_ERROR(mkdir(in("x/y"), 0755), ENOENT);
    REQUIRE(put("d/f", ""));
    errno = 0;
    REQUIRE(rmdir(in("d")) == -1 && (errno == ENOTEMPTY || errno == EEXIST));
    REQUIRE_ERROR(rmdir(in("d/f")), ENOTDIR);
    REQUIRE(unlink(in("d/f")) == 0);
    REQUIRE(rmdir(in("d")) == 0);
    REQUIRE_ERROR(rmdir(in("d")), ENOENT);
    return true;
}

enum { ENTRIES = 1200 };

/* Reads on in a directory; counts how often each of the files 0..ENTRIES-1 was listed. */
static bool list(DIR *stream, unsigned char *seen, long *count)
{
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (entry == NULL)
            return errno == 0;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (entry->d_type != DT_REG && entry->d_type != DT_UNKNOWN)
            return false;
        seen[atoi(entry->d_name)]++;
        ++*count;
    }
}

static bool directory_streams(void)
{
    static unsigned char seen[ENTRIES];
    char name[64];
    long count = 0;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof name, "%d-%.*s", i, i % 40, "a-name-of-a-length-that-differs-by-file!");
        REQUIRE(put(name, ""));
    }
    REQUIRE(opendir(in("none")) == NULL && errno == ENOENT);
    DIR *stream = opendir(directory);
    REQUIRE(stream != NULL);
    REQUIRE(list(stream, seen, &count));
    REQUIRE(count == ENTRIES);
    for (int i = 0; i < ENTRIES; i++)
        REQUIRE(seen[i] == 1);

    /* From the start again, with a file more and a file less. */
    REQUIRE(unlink(in("0-")) == 0);
    rewinddir(stream);
    memset(seen, 0, sizeof seen);
    count = 0;
    REQUIRE(list(stream, seen, &count));
    REQUIRE(count == ENTRIES - 1 && seen[0] == 0);
    REQUIRE(closedir(stream) == 0);
    return true;
}

static bool directory_positions(void)
{
    char names[40][256], name[32];
    long positions[40];
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "file%d", i);
        REQUIRE(put(name, ""));
    }
    DIR *stream = opendir(directory);
    REQUIRE(stream != NULL);
    for (int i = 0; i < 40; i++) {
        positions[i] = telldir(stream);
        struct dirent *entry = readdir(stream);
        REQUIRE(entry != NULL);
        snprintf(names[i], sizeof names[i], "%s", entry->d_name);
    }
    for (int i = 39; i >= 0; i -= 7) {
        seekdir(stream, positions[i]);
        struct dirent *entry = readdir(stream);
        REQUIRE(entry != NULL && strcmp(entry->d_name, names[i]) == 0);
    }
    REQUIRE(closedir(stream) == 0);
    return true;
}

static bool inodes_of_entries(void)
{
    struct stat status;
    REQUIRE(put("f", ""));
    REQUIRE(stat(in("f"), &status) == 0);
    DIR *stream = opendir(directory);
    REQUIRE(stream != NULL);
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL && strcmp(entry->d_name, "f") != 0)
        ;
    REQUIRE(entry != NULL);
    REQUIRE(entry->d_ino == status.st_ino);
    REQUIRE(closedir(stream) == 0);
    return true;
}

static bool symlinks(void)
{
    char buffer[64];
    REQUIRE(put("f", "content"));
    REQUIRE(symlink("f", in("link")) == 0);
    REQUIRE_ERROR(symlink("f", in("link")), EEXIST);
    REQUIRE(readlink(in("link"), buffer, sizeof buffer) == 1 && buffer[0] == 'f');
    REQUIRE_ERROR(readlink(in("f"), buffer, sizeof buffer), EINVAL);
    REQUIRE_ERROR(readlink(in("none"), buffer, sizeof buffer), ENOENT);
    /* A short buffer gets the start. */
    REQUIRE(symlink("a/long/target", in("long")) == 0);
    REQUIRE(readlink(in("long"), buffer, 4) == 4 && memcmp(buffer, "a/lo", 4) == 0);
    REQUIRE(unlink(in("link")) == 0 && holds("f", "content"));
    REQUIRE(symlink("loop", in("loop")) == 0);
    REQUIRE_ERROR(open(in("loop"), O_RDONLY), ELOOP);
    return true;
}

static bool hard_links(void)
{
    struct stat a, b;
    REQUIRE(put("a", "one"));
    REQUIRE(link(in("a"), in("b")) == 0);
    REQUIRE_ERROR(link(in("a"), in("b")), EEXIST);
    REQUIRE_ERROR(link(in("none"), in("c")), ENOENT);
    REQUIRE(stat(in("a"), &a) == 0 && stat(in("b"), &b) == 0);
    REQUIRE(a.st_ino == b.st_ino && a.st_nlink == 2);
    REQUIRE(put("b", "two") && holds("a", "two"));
    REQUIRE(unlink(in("a")) == 0 && holds("b", "two"));
    REQUIRE(stat(in("b"), &b) == 0 && b.st_nlink == 1);
    return true;
}

static bool times(void)
{
    struct stat status;
    struct timespec both[2] = {{1111111111, 123456789}, {1222222222, 987654321}};
    struct timespec one[2] = {{0, UTIME_OMIT}, {1333333333, 0}};
    struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
    int fd = open(in("f"), O_RDWR | O_CREAT, 0644);
    REQUIRE(fd >= 0);
    REQUIRE(futimens(fd, both) == 0 && fstat(fd, &status) == 0);
    REQUIRE(status.st_atim.tv_sec == 1111111111 && status.st_atim.tv_nsec == 123456789);
    REQUIRE(status.st_mtim.tv_sec == 1222222222 && status.st_mtim.tv_nsec == 987654321);
    REQUIRE(futimens(fd, one) == 0 && fstat(fd, &status) == 0);
    REQUIRE(status.st_atim.tv_sec == 1111111111 && status.st_mtim.tv_sec == 1333333333);
    REQUIRE(futimens(fd, now) == 0 && fstat(fd, &status) == 0);
    REQUIRE(status.st_atim.tv_sec > 1333333333 && status.st_mtim.tv_sec == 1333333333);
    REQUIRE(utimensat(AT_FDCWD, in("f"), both, 0) == 0 && stat(in("f"), &status) == 0);
    REQUIRE(status.st_mtim.tv_sec == 1222222222 && status.st_mtim.tv_nsec == 987654321);
    /* The link's own time, not its target's. */
    REQUIRE(symlink("f", in("link")) == 0);
    REQUIRE(utimensat(AT_FDCWD, in("link"), one, AT_SYMLINK_NOFOLLOW) == 0);
    REQUIRE(lstat(in("link"), &status) == 0 && status.st_mtim.tv_sec == 1333333333);
    REQUIRE(stat(in("f"), &status) == 0 && status.st_mtim.tv_sec == 1222222222);
    REQUIRE(close(fd) == 0);
    return true;
}

static bool access_checks(void)
{
    REQUIRE(put("f", ""));
    REQUIRE(access(in("f"), F_OK) == 0);
    REQUIRE(access(in("f"), R_OK | W_OK) == 0);
    REQUIRE_ERROR(access(in("none"), F_OK), ENOENT);
    REQUIRE_ERROR(access(in("f/x"), F_OK), ENOTDIR);
    return true;
}

static bool relative_to_a_directory(void)
{
    struct stat status;
    int base = open(directory, O_RDONLY | O_DIRECTORY);
    REQUIRE(base >= 0);
    REQUIRE(mkdirat(base, "d", 0755) == 0);
    int fd = openat(base, "d/f", O_RDWR | O_CREAT, 0644);
    REQUIRE(fd >= 0 && close(fd) == 0);
    REQUIRE(fstatat(base, "d/f", &status, 0) == 0 && S_ISREG(status.st_mode));
    REQUIRE(renameat(base, "d/f", base, "g") == 0);
    REQUIRE(unlinkat(base, "g", 0) == 0);
    REQUIRE(unlinkat(base, "d", AT_REMOVEDIR) == 0);
    REQUIRE(close(base) == 0);
    return true;
}

static bool buffered_io(void)
{
    char line[64];
    FILE *file = fopen(in("f"), "w+");
    REQUIRE(file != NULL);
    for (int i = 0; i < 5000; i++)
        REQUIRE(fprintf(file, "line %04d\n", i) == 10);
    REQUIRE(fflush(file) == 0);
    REQUIRE(fseek(file, 10 * 1234, SEEK_SET) == 0);
    REQUIRE(fgets(line, sizeof line, file) != NULL && strcmp(line, "line 1234\n") == 0);
    REQUIRE(ftell(file) == 10 * 1235);
    REQUIRE(fseek(file, -10, SEEK_END) == 0);
    REQUIRE(fread(line, 1, sizeof line, file) == 10 && memcmp(line, "line 4999\n", 10) == 0);
    REQUIRE(feof(file) && !ferror(file));
    rewind(file);
    REQUIRE(fputs("LINE", file) >= 0);
    REQUIRE(fclose(file) == 0);

    REQUIRE((file = fopen(in("f"), "a")) != NULL);
    REQUIRE(fputs("the end", file) >= 0 && fclose(file) == 0);
    REQUIRE((file = fopen(in("f"), "r")) != NULL);
    int number, lines = 0;
    REQUIRE(fscanf(file, "LINE %d", &number) == 1 && number == 0);
    for (int c; (c = getc(file)) != EOF;)
        lines += c == '\n';
    REQUIRE(lines == 5000);
    REQUIRE(fseek(file, -7, SEEK_END) == 0);
    REQUIRE(fgets(line, sizeof line, file) != NULL && strcmp(line, "the end") == 0);
    REQUIRE(fclose(file) == 0);
    REQUIRE(fopen(in("f"), "wx") == NULL && errno == EEXIST);
    return true;
}

static bool long_names(void)
{
    char name[257];
    memset(name, 'n', 256);
    name[256] = 0;
    REQUIRE_ERROR(open(in(name), O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
    REQUIRE_ERROR(mkdir(in(name), 0755), ENAMETOOLONG);
    name[255] = 0;
    REQUIRE(put(name, "content") && holds(name, "content"));
    REQUIRE(unlink(in(name)) == 0);
    return true;
}

/* Removes a directory with all that a failed check may have left in it. */
static void remove_tree(const char *path)
{
    DIR *stream = opendir(path);
    struct dirent *entry;
    char inner[4096];
    struct stat status;
    if (stream == NULL)
        return;
    while ((entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (lstat(inner, &status) == 0 && S_ISDIR(status.st_mode))
            remove_tree(inner);
        else
            unlink(inner);
        /* Not every host keeps its place when an entry goes. */
        rewinddir(stream);
    }
    closedir(stream);
    rmdir(path);
}

#define CHECK(name) {#name, name}

static const struct {
    const char *name;
    bool (*run)(void);
} checks[] = {
    CHECK(open_flags),
    CHECK(open_nofollow),
    CHECK(read_write_lseek),
    CHECK(pread_pwrite),
    CHECK(readv_writev),
    CHECK(append),
    CHECK(append_switched_on_by_fcntl),
    CHECK(large_file),
    CHECK(stat_fstat_lstat),
    CHECK(truncation),
    CHECK(syncing),
    CHECK(rename_files),
    CHECK(unlink_files),
    CHECK(mkdir_rmdir),
    CHECK(directory_streams),
    CHECK(directory_positions),
    CHECK(inodes_of_entries),
    CHECK(symlinks),
    CHECK(hard_links),
    CHECK(times),
    CHECK(access_checks),
    CHECK(relative_to_a_directory),
    CHECK(buffered_io),
    CHECK(long_names),
};

int main(int argc, char **argv)
{
    char top[2048];
    unsigned failures = 0, count = sizeof checks / sizeof checks[0];
    if (argc != 2 || (size_t)snprintf(top, sizeof top, "%s/cfs", argv[1]) >= sizeof top) {
        fprintf(stderr, "usage: cfs ROOT\n");
        return 2;
    }
    if (mkdir(top, 0755) != 0) {
        fprintf(stderr, "cfs: cannot create %s: %s\n", top, strerror(errno));
        return 1;
    }
    for (unsigned i = 0; i < count; i++) {
        check_name = checks[i].name;
        snprintf(directory, sizeof directory, "%s/%s", top, check_name);
        if (mkdir(directory, 0755) != 0) {
            fprintf(stderr, "FAIL %s: cannot create %s: %s\n", check_name, directory, strerror(errno));
            failures++;
            continue;
        }
        if (checks[i].run())
            printf("ok %s\n", check_name);
        else
            failures++;
        remove_tree(directory);
    }
    if (rmdir(top) != 0) {
        fprintf(stderr, "FAIL: %s is not empty in the end: %s\n", top, strerror(errno));
        failures++;
    }
    if (failures > 0) {
        fprintf(stderr, "cfs: %u of %u checks failed\n", failures, count);
        return 1;
    }
    printf("cfs: all %u checks passed\n", count);
    return 0;
}
