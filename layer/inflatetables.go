package layer

// lengthOrder is the order in which the lengths of lengths are sent, RFC 1951
// section 3.2.7.
var lengthOrder = [numLengths]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// fixedTables makes the tables of the fixed code, RFC 1951 section 3.2.6.
func (f *inflater) fixedTables() {
	if f.fixed {
		return
	}
	var lengths [numLiterals]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	buildTable(f.literals[:], literalBits, lengths[:], literalMeaning)
	for i := range numDistances {
		lengths[i] = 5
	}
	buildTable(f.distances[:], distanceBits, lengths[:numDistances], distanceMeaning)
	f.fixed = true
}

// dynamicTables reads the tables of a block of its own code.
func (f *inflater) dynamicTables() error {
	if err := f.load(14); err != nil {
		return err
	}
	literals, distances, n := f.take(5)+257, f.take(5)+1, f.take(4)+4
	if literals > 286 || distances > 30 {
		return f.corrupt("a code of too many symbols")
	}
	var lengths [286 + 30]uint8
	if err := f.readLengths(lengths[:literals+distances], n); err != nil {
		return err
	}
	f.fixed = false
	if !buildTable(f.literals[:], literalBits, lengths[:literals], literalMeaning) ||
		!buildTable(f.distances[:], distanceBits, lengths[literals:literals+distances], distanceMeaning) {
		return f.corrupt("an impossible code")
	}
	return nil
}

// readLengths reads the lengths of symbols, which come in a code of which n
// lengths come first.
func (f *inflater) readLengths(lengths []uint8, n int) error {
	var own [numLengths]uint8
	for _, symbol := range lengthOrder[:n] {
		if err := f.load(3); err != nil {
			return err
		}
		own[symbol] = uint8(f.take(3))
	}
	var table [1 << lengthBits]code
	if !buildTable(table[:], lengthBits, own[:], lengthMeaning) {
		return f.corrupt("an impossible code of lengths")
	}
	for i := 0; i < len(lengths); {
		symbol, err := f.readLength(&table)
		if err != nil {
			return err
		}
		var value uint8
		count := 1
		switch {
		case symbol < 16:
			value = uint8(symbol)
		case symbol == 16 && i == 0:
			return f.corrupt("a repetition of nothing")
		case symbol == 16:
			value = lengths[i-1]
			count, err = f.readCount(3, 2)
		case symbol == 17:
			count, err = f.readCount(3, 3)
		default:
			count, err = f.readCount(11, 7)
		}
		if err != nil {
			return err
		}
		if count > len(lengths)-i {
			return f.corrupt("a code of too many lengths")
		}
		for range count {
			lengths[i] = value
			i++
		}
	}
	return nil
}

// readLength reads a symbol of the code of lengths.
func (f *inflater) readLength(table *[1 << lengthBits]code) (int, error) {
	short := f.load(lengthBits) // which the last symbols may be
	c := table[f.bits&(1<<lengthBits-1)]
	switch {
	case c == 0:
		return 0, f.corrupt("a length that is none")
	case c.size() > f.nbits:
		return 0, short
	}
	f.take(c.size())
	return c.value(), nil
}

// readCount reads how often a length is repeated: least, and what the next n bits
// add.
func (f *inflater) readCount(least int, n uint) (int, error) {
	if err := f.load(n); err != nil {
		return 0, err
	}
	return least + f.take(n), nil
}
