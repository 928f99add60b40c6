/*
 * Loaded into user-mode Linux before libc. On processors with AMX the registers that PTRACE_SETREGSET takes are larger
 * than the 2696 bytes that it knows (FP_SIZE in arch/um, before Linux 6.13), and the host refuses a part of them with
 * EFAULT: no process starts in it. What it does not know of is left as it is at the start of a process. Needs no
 * header, so that any C compiler makes it.
 */
enum { SYS_ptrace = 101, PEEKUSER = 3, GETREGSET = 0x4204, SETREGSET = 0x4205, XSTATE = 0x202, HEADER = 512 };

struct vector {
	void *base;
	unsigned long size;
};

extern long syscall(long number, ...);

/* Not on the stack: those of user-mode Linux are small. It has one thread that calls ptrace. */
static unsigned char whole[65536];
static unsigned long whole_size;

long ptrace(long request, long pid, void *address, void *data) {
	if (request >= 1 && request <= PEEKUSER) { /* libc returns what the kernel writes */
		long word;
		return syscall(SYS_ptrace, request, pid, address, &word) < 0 ? -1 : word;
	}
	if (request != SETREGSET || (long)address != XSTATE)
		return syscall(SYS_ptrace, request, pid, address, data);
	struct vector *given = data;
	if (whole_size == 0) {
		struct vector all = { whole, sizeof whole };
		if (syscall(SYS_ptrace, GETREGSET, pid, XSTATE, &all) < 0) return -1;
		whole_size = all.size;
		for (unsigned long i = 0; i < sizeof whole; i++) whole[i] = 0;
	}
	if (given->size >= whole_size) return syscall(SYS_ptrace, request, pid, address, data);
	const unsigned char *from = given->base;
	for (unsigned long i = 0; i < given->size; i++) whole[i] = from[i];
	*(unsigned long *)(whole + HEADER) &= 0x2ff; /* the components that lie in it: x87 to AVX-512, and PKRU */
	struct vector all = { whole, whole_size };
	return syscall(SYS_ptrace, request, pid, address, &all);
}
