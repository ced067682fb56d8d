#!/bin/sh
# qemu.sh ELF [key=value...]: runs a firmware once in QEMU. The exit status is the firmware's (0 or 1; 124: out of time).
#
# 10.0.2.2 is this machine's 127.0.0.1 to the firmware. With -icount virtual time goes on evenly: 32 ns an instruction.
elf=$1
config="enable=on,target=native"
for argument in "$@"; do config="$config,arg=$argument"; done
exec timeout "${QEMU_TIMEOUT:-120}" qemu-system-arm -machine mps2-an385 -icount shift=5 \
    -display none -monitor none -serial none -nic user,model=lan9118,ipv6=off \
    -semihosting-config "$config" -kernel "$elf" </dev/null
