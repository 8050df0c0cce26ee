package memory

import (
	"iter"
	"slices"
)

// ordered is a set of strings in order, in blocks: inserting moves at most one block, not all.
type ordered struct {
	blocks [][]string // none is empty
}

const blockSize = 512

// block is the index of the block that s belongs to.
func (o *ordered) block(s string) int {
	at, found := slices.BinarySearchFunc(o.blocks, s, func(block []string, s string) int {
		switch {
		case block[0] < s:
			return -1
		case block[0] > s:
			return 1
		}
		return 0
	})
	if !found && at > 0 {
		at--
	}
	return at
}

func (o *ordered) insert(s string) {
	if len(o.blocks) == 0 {
		o.blocks = append(o.blocks, []string{s})
		return
	}
	b := o.block(s)
	at, found := slices.BinarySearch(o.blocks[b], s)
	if found {
		return
	}
	o.blocks[b] = slices.Insert(o.blocks[b], at, s)
	if block := o.blocks[b]; len(block) > blockSize {
		half := len(block) / 2
		o.blocks[b] = slices.Clone(block[:half])
		o.blocks = slices.Insert(o.blocks, b+1, slices.Clone(block[half:]))
	}
}

func (o *ordered) remove(s string) {
	if len(o.blocks) == 0 {
		return
	}
	b := o.block(s)
	at, found := slices.BinarySearch(o.blocks[b], s)
	if !found {
		return
	}
	o.blocks[b] = slices.Delete(o.blocks[b], at, at+1)
	if len(o.blocks[b]) == 0 {
		o.blocks = slices.Delete(o.blocks, b, b+1)
	}
}

// after is the strings greater than s.
func (o *ordered) after(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if len(o.blocks) == 0 {
			return
		}
		first := o.block(s)
		for i, block := range o.blocks[first:] {
			if i == 0 {
				at, found := slices.BinarySearch(block, s)
				if found {
					at++
				}
				block = block[at:]
			}
			for _, member := range block {
				if !yield(member) {
					return
				}
			}
		}
	}
}
