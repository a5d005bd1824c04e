/*
 * A system that writes to a word of each of its pages from 4 to 20 MiB at each tick of the timer (18 times a second,
 * 290 MiB of changed memory a second) and sleeps in between: with any bandwidth below that, a live migration of it
 * never ends by itself. Booted as a Multiboot kernel, as the lab's obedient one; it obeys nobody.
 */
        .set FIRST, 4 << 20
        .set LAST, 20 << 20
        .set PAGE, 4096
        .set PIC1, 0x20
        .set PIC2, 0xa0
        .set TIMER_VECTOR, 8

        .code32
        .text
        .set MAGIC, 0x1badb002
        .set FLAGS, 1 << 16
header: .long MAGIC, FLAGS, -(MAGIC + FLAGS)
        .long header, header, loaded, end, start

        .globl start
start:  cli
        movl $stack, %esp
        movl $tick, %eax
        movw %ax, interrupts + TIMER_VECTOR * 8
        movw %cs, interrupts + TIMER_VECTOR * 8 + 2
        movw $0x8e00, interrupts + TIMER_VECTOR * 8 + 4
        shrl $16, %eax
        movw %ax, interrupts + TIMER_VECTOR * 8 + 6
        lidt table
        movb $0xfe, %al
        outb %al, $(PIC1 + 1)
        movb $0xff, %al
        outb %al, $(PIC2 + 1)

write:  movl $FIRST, %edi
next:   incl (%edi)
        movl %edi, 8(%edi)              /* no two pages are alike, and none is zero */
        addl $PAGE, %edi
        cmpl $LAST, %edi
        jb next
        sti
        hlt
        jmp write

tick:   pushl %eax
        movb $0x20, %al
        outb %al, $PIC1
        popl %eax
        iret

        .balign 4
table:  .word (TIMER_VECTOR + 1) * 8 - 1
        .long interrupts
        .balign 8
interrupts:
        .skip (TIMER_VECTOR + 1) * 8
loaded: .skip 512
stack:
end:
