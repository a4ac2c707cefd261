package layer

import "math/bits"

// A code is what the next bits of a deflated block mean, as a table has it:
//
//	bits 0…5    how many bits they are, extra bits included
//	bits 8…11   how many of them are the symbol
//	bits 16…31  a literal, or a length or distance without its extra bits, or where
//	            in the table the second level begins
//
// and between them one of the flags. Without one it is nothing that may come.
type code uint32

// The flags of a code.
const (
	literal     code = 1 << 12
	copying     code = 1 << 13 // a length or a distance
	endOfBlock  code = 1 << 14
	secondLevel code = 1 << 15
)

// size returns how many bits c takes.
func (c code) size() uint { return uint(c & 63) }

// value returns what c is worth without extra bits.
func (c code) value() int { return int(c >> 16) }

// extended returns what c is worth with the extra bits, where it begins in b.
func (c code) extended(b uint64) int {
	return int(c>>16) + int(b&(1<<(c&63)-1)>>(c>>8&15))
}

const (
	maxBits = 15 // of a symbol

	numLiterals  = 288 // and lengths; 286 and 287 are in the fixed code only, and may not come
	numDistances = 32  // 30 and 31 likewise
	numLengths   = 19  // of the code that codes are sent in

	literalBits  = 11 // that the first level is looked up by
	distanceBits = 9
	lengthBits   = 7

	literalMask  = 1<<literalBits - 1
	distanceMask = 1<<distanceBits - 1

	// A second level holds two symbols at least.
	literalCodes  = 1<<literalBits + numLiterals/2<<(maxBits-literalBits)
	distanceCodes = 1<<distanceBits + numDistances/2<<(maxBits-distanceBits)
)

// buildTable makes the table of the canonical Huffman code in which symbol i has
// lengths[i] bits, 0 for none, and means meaning(i). A look-up is by the next
// first bits, where they lead to a second level by the maxBits-first ones behind.
// It reports whether the code is complete. One of a single symbol of one bit
// passes too, and one of none, as zlib and compress/flate have it.
func buildTable(table []code, first int, lengths []uint8, meaning func(symbol int) code) bool {
	var next [maxBits + 1]int // the place in sorted of the next symbol of each length
	for _, n := range lengths {
		next[n]++
	}
	place, room := 0, 1
	for n, m := range next[1:] {
		next[n+1] = place
		place += m
		if room = room<<1 - m; room < 0 {
			return false
		}
	}
	if room != 0 && place != 0 && (place != 1 || next[2] != 1) {
		return false
	}
	var sorted [numLiterals]uint16
	for i, n := range lengths {
		if n != 0 {
			sorted[next[n]] = uint16(i)
			next[n]++
		}
	}
	fillTable(table, first, sorted[:place], next[:], meaning)
	return true
}

// fillTable fills the table with the symbols, which are sorted by their lengths,
// those of up to n bits before ends[n].
func fillTable(table []code, first int, sorted []uint16, ends []int, meaning func(symbol int) code) {
	table[0], table[1] = 0, 0
	bottom := 1 << first // of the second levels
	width := maxBits - first
	prefix := -1
	for n, i, bit := 1, 0, 0; n <= maxBits; n, bit = n+1, bit<<1 {
		if 1 < n && n <= first {
			copy(table[1<<(n-1):1<<n], table)
		}
		for ; i < ends[n]; i, bit = i+1, bit+1 {
			c := meaning(int(sorted[i])) + code(n)<<8 + code(n)
			at := int(bits.Reverse16(uint16(bit)) >> (16 - n))
			if n <= first {
				table[at] = c
				continue
			}
			if p := at & (1<<first - 1); p != prefix {
				if prefix >= 0 {
					bottom += 1 << width
				}
				prefix = p
				table[p] = secondLevel | code(bottom)<<16
			}
			for at >>= first; at < 1<<width; at += 1 << (n - first) {
				table[bottom+at] = c
			}
		}
	}
}

func literalMeaning(symbol int) code {
	n := symbol - 257
	switch {
	case n < -1:
		return code(symbol)<<16 | literal
	case n < 0:
		return endOfBlock
	case n < 8:
		return code(n+3)<<16 | copying
	case n < 28:
		extra := (n - 4) >> 2
		return code((4+n&3)<<extra+3)<<16 | copying | code(extra)
	case n == 28:
		return 258<<16 | copying
	}
	return 0
}

func distanceMeaning(symbol int) code {
	switch {
	case symbol < 4:
		return code(symbol+1)<<16 | copying
	case symbol < 30:
		extra := symbol>>1 - 1
		return code((2+symbol&1)<<extra+1)<<16 | copying | code(extra)
	}
	return 0
}

// lengthMeaning marks a length as a literal, so that nothing is not a code of 0 bits.
func lengthMeaning(symbol int) code { return code(symbol)<<16 | literal }
