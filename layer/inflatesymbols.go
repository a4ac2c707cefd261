package layer

import "encoding/binary"

// symbols inflates the symbols of a block to its end or until the buffer is full.
func (f *inflater) symbols() error {
	for !f.full() && f.phase == inSymbols {
		f.fill(turnInput)
		var err error
		if f.end-f.pos >= turnInput {
			err = f.quick()
		} else {
			err = f.symbol() // the last ones of r
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// symbol inflates one symbol, of which r may not have all.
func (f *inflater) symbol() error {
	c, err := f.find(f.literals[:], literalBits)
	if err != nil {
		return err
	}
	length := c.extended(f.bits) // or the literal
	f.take(c.size())
	switch {
	case c&endOfBlock != 0:
		f.phase = atBlock
		return nil
	case c&literal != 0:
		f.out[f.next] = byte(length)
		f.next++
		return nil
	}
	if c, err = f.find(f.distances[:], distanceBits); err != nil {
		return err
	}
	distance := c.extended(f.bits)
	f.take(c.size())
	if distance > f.next-f.start {
		return f.corrupt("a copy from nowhere")
	}
	for range length {
		f.out[f.next] = f.out[f.next-distance]
		f.next++
	}
	return nil
}

// find finds what the next bits mean, of which r has all.
func (f *inflater) find(table []code, first uint) (code, error) {
	short := f.load(32) // which the last symbols are
	c := table[f.bits&(1<<first-1)]
	if c&secondLevel != 0 {
		c = table[c.value()+int(f.bits>>first&(1<<(maxBits-first)-1))]
	}
	switch {
	case c&(literal|copying|endOfBlock) == 0:
		return 0, f.corrupt("a symbol that is none")
	case c.size() > f.nbits:
		return 0, short
	}
	return c, nil
}

// quick inflates symbols while there are input and room for a turn: up to three
// literals, or up to two and what follows them. Its variables are in registers, and
// masks are there where they spare a check of bounds. Of nbits the low six
// bits count, so that a code can be taken from it as it is.
func (f *inflater) quick() error {
	var (
		bits, nbits, pos, next = f.bits, f.nbits, f.pos, f.next
		lastPos, lastNext      = f.end - loopInput, bufferSize - turnOutput
		what                   string
	)
	bits, nbits, pos = refill(&f.in, bits, nbits, pos)
	c := f.literals[bits&literalMask]
	for pos <= lastPos && next <= lastNext {
		if c&literal != 0 {
			bits >>= c & 63
			nbits -= uint(c)
			f.out[next&bufferMask] = byte(c >> 16)
			next++
			c = f.literals[bits&literalMask]
			if c&literal != 0 {
				bits >>= c & 63
				nbits -= uint(c)
				f.out[next&bufferMask] = byte(c >> 16)
				next++
				c = f.literals[bits&literalMask]
			}
		}
		if c&secondLevel != 0 {
			c = f.literals[c.value()+int(bits>>literalBits&(1<<(maxBits-literalBits)-1))]
		}
		if c&literal != 0 {
			bits >>= c & 63
			nbits -= uint(c)
			f.out[next&bufferMask] = byte(c >> 16)
			next++
			bits, nbits, pos = refill(&f.in, bits, nbits, pos)
			c = f.literals[bits&literalMask]
			continue
		}
		if c&copying == 0 {
			if c&endOfBlock == 0 {
				what = "a symbol that is none"
				break
			}
			bits >>= c & 63
			nbits -= uint(c)
			f.phase = atBlock
			break
		}
		length := c.extended(bits)
		bits >>= c & 63
		nbits -= uint(c)

		bits, nbits, pos = refill(&f.in, bits, nbits, pos)
		c = f.distances[bits&distanceMask]
		if c&secondLevel != 0 {
			c = f.distances[c.value()+int(bits>>distanceBits&(1<<(maxBits-distanceBits)-1))]
		}
		distance := c.extended(bits)
		if c&copying == 0 || distance > next-f.start {
			what = "a copy from nowhere"
			break
		}
		bits >>= c & 63
		nbits -= uint(c)

		bits, nbits, pos = refill(&f.in, bits, nbits, pos)
		c = f.literals[bits&literalMask] // it comes from memory while bytes are copied
		from, end := next-distance, next+length
		for distance < 8 { // what is written repeats itself at twice the distance too
			copy8(&f.out, next, from)
			next += distance
			distance *= 2
		}
		for next < end {
			copy8(&f.out, next, from)
			copy8(&f.out, next+8, from+8)
			next += 16
			from += 16
		}
		next = end
	}
	f.bits, f.nbits, f.pos, f.next = bits, nbits&63, pos, next
	f.unload()
	if what != "" {
		return f.corrupt(what)
	}
	return nil
}

// refill has bits hold 56 bits or more.
func refill(in *[inputSize + 8]byte, bits uint64, nbits uint, pos int) (uint64, uint, int) {
	bits |= binary.LittleEndian.Uint64(in[pos&(inputSize-1):]) << (nbits & 63)
	return bits, nbits | 56, pos + int(^nbits>>3&7)
}

// copy8 copies 8 bytes.
func copy8(out *[bufferSize + 16]byte, to, from int) {
	b := binary.LittleEndian.Uint64(out[from&bufferMask:])
	binary.LittleEndian.PutUint64(out[to&bufferMask:], b)
}
