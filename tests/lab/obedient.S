/*
 * The smallest system that powers off when it is asked to: a virtual machine that runs it needs no disk and a few
 * MiB, migrates, and obeys an ACPI shutdown at once. Booted by QEMU as a Multiboot kernel (Multiboot Specification
 * 0.6.96, section 3.1), loaded at 1 MiB in 32-bit protected mode.
 *
 * It speaks to the ACPI fixed hardware directly (ACPI Specification, section 4.8.3): SeaBIOS puts the power management
 * registers at port 0x600 on both of QEMU's PC machines.
 *
 * Assembled with LADEN_MIB, it first puts a word into each page of that many MiB: a migration has to carry those,
 * while untouched pages cost it nothing.
 */
        .set PM1_STATUS, 0x600
        .set PM1_ENABLE, 0x602
        .set PM1_CONTROL, 0x604
        .set POWER_BUTTON, 1 << 8
        .set SLEEP_S5, 1 << 13          /* SLP_EN with SLP_TYP 0, which is S5 in QEMU's tables */
        .set PIC1, 0x20
        .set PIC2, 0xa0
        .set TIMER_VECTOR, 8            /* IRQ 0 as the firmware leaves it */

        .code32
        .text
        .set MAGIC, 0x1badb002
        .set FLAGS, 1 << 16             /* the addresses below are given: this is no ELF file */
header: .long MAGIC, FLAGS, -(MAGIC + FLAGS)
        .long header, header, loaded, end, start

        .globl start
start:  cli
        movl $stack, %esp

        /* One interrupt gate, for the timer: without it the processor could not sleep between two looks. */
        movl $tick, %eax
        movw %ax, interrupts + TIMER_VECTOR * 8
        movw %cs, interrupts + TIMER_VECTOR * 8 + 2
        movw $0x8e00, interrupts + TIMER_VECTOR * 8 + 4
        shrl $16, %eax
        movw %ax, interrupts + TIMER_VECTOR * 8 + 6
        lidt table

        movb $0xfe, %al                 /* all other interrupts stay masked: they have no gate */
        outb %al, $(PIC1 + 1)
        movb $0xff, %al
        outb %al, $(PIC2 + 1)

        .ifdef LADEN_MIB
        movl $0x200000, %edi
        movl $(LADEN_MIB * 256), %ecx
fill:   movl %edi, (%edi)
        addl $4096, %edi
        loop fill
        .endif

        movw $PM1_ENABLE, %dx           /* QEMU notes a press of the button only while it is enabled here */
        movw $POWER_BUTTON, %ax
        outw %ax, %dx

wait:   sti
        hlt
        movw $PM1_STATUS, %dx
        inw %dx, %ax
        testw $POWER_BUTTON, %ax
        jz wait
        movw $PM1_CONTROL, %dx
        movw $SLEEP_S5, %ax
        outw %ax, %dx
        jmp wait

tick:   pushl %eax
        movb $0x20, %al                 /* end of interrupt */
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
