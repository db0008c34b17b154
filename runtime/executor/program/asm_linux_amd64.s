#include "textflag.h"

// func vforkSyscall(number, a1, a2, a3 uintptr) (result, errno uintptr)
//
// The child returns from here first and overwrites the stack above, in which
// this function's return address lies: it is kept in a register, of which
// parent and child have one each.
TEXT ·vforkSyscall(SB),NOSPLIT|NOFRAME,$0-48
	MOVQ	a1+8(FP), DI
	MOVQ	a2+16(FP), SI
	MOVQ	a3+24(FP), DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	$0, R9
	MOVQ	number+0(FP), AX
	POPQ	R12
	SYSCALL
	PUSHQ	R12
	CMPQ	AX, $0xfffffffffffff001
	JLS	ok
	MOVQ	$-1, result+32(FP)
	NEGQ	AX
	MOVQ	AX, errno+40(FP)
	RET
ok:
	MOVQ	AX, result+32(FP)
	MOVQ	$0, errno+40(FP)
	RET
