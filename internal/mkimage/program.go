package mkimage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// The program is a few machine instructions and its message behind them:
// write(1, message, len(message)); exit(0).
const message = "Hello from an image that was mounted, not pulled.\n"

func amd64Program() []byte {
	code := []byte{
		0xb8, 1, 0, 0, 0, // mov eax, 1 (write)
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea rsi, [rip+16], the message
		0xba, byte(len(message)), 0, 0, 0, // mov edx, len
		0x0f, 0x05, // syscall
		0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
		0x31, 0xff, // xor edi, edi
		0x0f, 0x05, // syscall
	}
	return executable(elf.EM_X86_64, code)
}

func arm64Program() []byte {
	var code []byte
	for _, op := range []uint32{
		0xd2800020,                           // mov x0, 1
		0x100000e1,                           // adr x1, 28 bytes on, the message
		0xd2800002 | uint32(len(message))<<5, // mov x2, len
		0xd2800808,                           // mov x8, 64 (write)
		0xd4000001,                           // svc 0
		0xd2800000,                           // mov x0, 0
		0xd2800ba8,                           // mov x8, 93 (exit)
		0xd4000001,                           // svc 0
	} {
		code = binary.LittleEndian.AppendUint32(code, op)
	}
	return executable(elf.EM_AARCH64, code)
}

// executable is a static ELF file of one segment: its headers, the code, the message.
func executable(machine elf.Machine, code []byte) []byte {
	const base, ehsize, phsize = 0x400000, 64, 56
	size := uint64(ehsize + phsize + len(code) + len(message))
	header := elf.Header64{
		Ident:   [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:    uint16(elf.ET_EXEC),
		Machine: uint16(machine),
		Version: uint32(elf.EV_CURRENT),
		Entry:   base + ehsize + phsize,
		Phoff:   ehsize,
		Ehsize:  ehsize, Phentsize: phsize, Phnum: 1, Shentsize: 64,
	}
	segment := elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
		Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x10000,
	}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, header) // a Buffer takes everything
	_ = binary.Write(&b, binary.LittleEndian, segment)
	b.Write(code)
	b.WriteString(message)
	return b.Bytes()
}
