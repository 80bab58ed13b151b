/*
 * Lets User Mode Linux run on processors with AMX, or whatever grows the register file next.
 *
 * A kernel that traces a process must set all of its extended registers at once: the host refuses
 * PTRACE_SETREGSET with a buffer that is shorter than the processor's XSAVE area (EFAULT). Linux
 * 6.1 as UML has a buffer of fixed size, which ends with AVX-512, and panics when it starts init
 * ("ptrace set fp regs failed, errno = 14"). Later kernels ask for the size.
 *
 * Preloaded into linux.uml, this completes such a buffer with what the process has at present.
 * UML's own programs never use the registers behind, so that nothing is lost.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

long ptrace(enum __ptrace_request request, ...)
{
    static long (*real)(enum __ptrace_request, ...);
    /* Not on the stack: UML's kernel stacks are small. And one will do: it has one CPU. */
    static unsigned char complete[1 << 16];
    va_list arguments;

    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "ptrace");

    if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) {
        struct iovec *given = data;
        struct iovec all = {complete, sizeof complete};
        if (real(PTRACE_GETREGSET, pid, address, &all) == 0 && all.iov_len > given->iov_len) {
            memcpy(complete, given->iov_base, given->iov_len);
            return real(request, pid, address, &all);
        }
    }
    return real(request, pid, address, data);
}
