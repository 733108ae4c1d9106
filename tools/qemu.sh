# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# The virtual machine. To be sourced after lib.sh.
#
# shellcheck disable=SC2034,SC2054 # used by those who source it; commas are QEMU's

ACCEL=${ACCEL:-tcg}
TDX_ON="tdxsim=on kvm_intel.tdx=1"

# qemu_args VARIANT CPUS MEMORY OPTIONS RUNS: the command in the array "qemu", less its serial ports
qemu_args()
{
	# On a host with much to do, the emulated timer can be too late for the kernel's check of it at boot.
	local append="console=ttyS0 panic=-1 no_timer_check $4" cpu=max,vendor=GenuineIntel

	# With paging in 5 levels, the base kernel now and then has KASAN report a read while it identifies CPU 0.
	[[ $1 != *+debug* ]] || cpu+=,la57=off
	qemu=(qemu-system-x86_64 -accel "$ACCEL" -cpu "$cpu" -smp "$2" -m "$3" -nodefaults
	      -display none -no-reboot -kernel "$BUILD/$1/bzImage" -initrd "$BUILD/initramfs.cpio"
	      -append "$append -- $5")
}
