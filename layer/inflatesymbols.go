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
	switch {
	case c&endOfBlock != 0:
		f.take(c.size())
		f.phase = atBlock
		return nil
	case c&twoLiterals != 0:
		c = c&0xff0000 | oneLiteral | c>>8&15
		fallthrough
	case c&oneLiteral != 0:
		f.take(c.size())
		f.out[f.next] = byte(c.value())
		f.next++
		return nil
	}
	length := c.extended(f.bits)
	f.take(c.size())
	if c, err = f.find(f.distances[:], distanceBits); err != nil {
		return err
	}
	distance := c.extended(f.bits)
	f.take(c.size())
	if distance > f.next-f.start {
		return f.corrupt("a copy from before the beginning")
	}
	for range length {
		f.out[f.next] = f.out[f.next-distance]
		f.next++
	}
	return nil
}

// find finds what the next bits mean, all of which are there.
func (f *inflater) find(table []code, first uint) (code, error) {
	short := f.load(32) // which the last symbols are
	c := table[f.bits&(1<<first-1)]
	if c&secondLevel != 0 {
		c = table[c.value()+int(f.bits>>first&(1<<(maxBits-first)-1))]
	}
	need := c.size()
	if c&twoLiterals != 0 {
		need = uint(c >> 8 & 15)
	}
	switch {
	case c&(oneLiteral|twoLiterals|copying|endOfBlock) == 0:
		return 0, f.corrupt("a symbol that is none")
	case need > f.nbits:
		return 0, short
	}
	return c, nil
}

// quick inflates symbols while there is input and room for a turn.
func (f *inflater) quick() error {
	const (
		literalMask  = 1<<literalBits - 1
		distanceMask = 1<<distanceBits - 1
		literalMore  = 1<<(maxBits-literalBits) - 1
		distanceMore = 1<<(maxBits-distanceBits) - 1
		inMask       = inputSize - 1
		outMask      = bufferSize - 1
		lastRoom     = bufferSize - turnOutput
	)
	// nbits counts in its low six bits only.
	bits, nbits, pos, next := f.bits, f.nbits, f.pos, f.next
	lastInput := f.end - turnInput
	var what string
	for pos <= lastInput && next <= lastRoom {
		bits |= binary.LittleEndian.Uint64(f.in[pos&inMask:]) << (nbits & 63)
		pos += int(^nbits >> 3 & 7)
		nbits |= 56

		c := f.literals[bits&literalMask]
		if c&(oneLiteral|twoLiterals) != 0 {
			bits >>= c & 63
			nbits -= uint(c)
			binary.LittleEndian.PutUint16(f.out[next&outMask:], uint16(c>>16))
			next += int(c >> 12 & 3)
			c = f.literals[bits&literalMask]
			if c&(oneLiteral|twoLiterals) != 0 {
				bits >>= c & 63
				nbits -= uint(c)
				binary.LittleEndian.PutUint16(f.out[next&outMask:], uint16(c>>16))
				next += int(c >> 12 & 3)
				c = f.literals[bits&literalMask]
				if c&(oneLiteral|twoLiterals) != 0 {
					bits >>= c & 63
					nbits -= uint(c)
					binary.LittleEndian.PutUint16(f.out[next&outMask:], uint16(c>>16))
					next += int(c >> 12 & 3)
					continue
				}
			}
		}
		if c&copying == 0 {
			if c&secondLevel != 0 {
				c = f.literals[int(c>>16)+int(bits>>literalBits&literalMore)]
			}
			if c&oneLiteral != 0 {
				bits >>= c & 63
				nbits -= uint(c)
				f.out[next&outMask] = byte(c >> 16)
				next++
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
		}
		length := int(c>>16) + int(bits&(1<<(c&63)-1)>>(c>>8&15))
		bits >>= c & 63
		nbits -= uint(c)

		bits |= binary.LittleEndian.Uint64(f.in[pos&inMask:]) << (nbits & 63)
		pos += int(^nbits >> 3 & 7)
		nbits |= 56
		d := f.distances[bits&distanceMask]
		if d&copying == 0 {
			if d&secondLevel != 0 {
				d = f.distances[int(d>>16)+int(bits>>distanceBits&distanceMore)]
			}
			if d&copying == 0 {
				what = "a distance that is none"
				break
			}
		}
		distance := int(d>>16) + int(bits&(1<<(d&63)-1)>>(d>>8&15))
		bits >>= d & 63
		nbits -= uint(d)
		if distance > next-f.start {
			what = "a copy from before the beginning"
			break
		}
		from := next - distance
		end := next + length
		if distance >= 8 {
			for {
				to, at := f.out[next&outMask:], f.out[from&outMask:]
				binary.LittleEndian.PutUint64(to, binary.LittleEndian.Uint64(at))
				binary.LittleEndian.PutUint64(to[8:], binary.LittleEndian.Uint64(at[8:]))
				next += 16
				from += 16
				if next >= end {
					break
				}
			}
		} else {
			for next < end {
				f.out[next&outMask] = f.out[from&outMask]
				next++
				from++
			}
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
