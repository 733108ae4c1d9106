/* SPDX-License-Identifier: GPL-2.0 */
/*
 * tdxsim: VMRUN with all of the guest's registers.
 *
 * With V_INTR_MASKING it is the host's RFLAGS.IF at VMRUN that decides about
 * interrupts while the guest runs: set here, with GIF clear so that none is
 * taken before or after. An interrupt ends the run and stays pending.
 */
#include <linux/linkage.h>
#include <asm/frame.h>

#define GPR(n)	(8 * (n))(%rax)

	.text

/* void tdxsim_vmrun(u64 guest_vmcb_pa, u64 host_vmcb_pa, u64 gpr[16]) */
SYM_FUNC_START(tdxsim_vmrun)
	push	%rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rsi		/* 16(%rsp) host_vmcb_pa */
	push	%rdx		/*  8(%rsp) gpr */
	push	%rdi		/*   (%rsp) guest_vmcb_pa */

	clgi
	sti

	mov	%rsi, %rax
	vmsave	%rax

	/* RAX and RSP are in the VMCB. */
	mov	%rdx, %rax
	mov	GPR(1), %rcx
	mov	GPR(2), %rdx
	mov	GPR(3), %rbx
	mov	GPR(5), %rbp
	mov	GPR(6), %rsi
	mov	GPR(7), %rdi
	mov	GPR(8), %r8
	mov	GPR(9), %r9
	mov	GPR(10), %r10
	mov	GPR(11), %r11
	mov	GPR(12), %r12
	mov	GPR(13), %r13
	mov	GPR(14), %r14
	mov	GPR(15), %r15

	mov	(%rsp), %rax
	vmload	%rax
	vmrun	%rax
	vmsave	%rax

	mov	16(%rsp), %rax
	vmload	%rax

	mov	8(%rsp), %rax
	mov	%rcx, GPR(1)
	mov	%rdx, GPR(2)
	mov	%rbx, GPR(3)
	mov	%rbp, GPR(5)
	mov	%rsi, GPR(6)
	mov	%rdi, GPR(7)
	mov	%r8, GPR(8)
	mov	%r9, GPR(9)
	mov	%r10, GPR(10)
	mov	%r11, GPR(11)
	mov	%r12, GPR(12)
	mov	%r13, GPR(13)
	mov	%r14, GPR(14)
	mov	%r15, GPR(15)

	cli
	stgi

	add	$24, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	RET
SYM_FUNC_END(tdxsim_vmrun)
