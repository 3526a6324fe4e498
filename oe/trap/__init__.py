"""The trap: catches first packets in the kernel, holds them, and puts decisions where no packet needs us any more."""
