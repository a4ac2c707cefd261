package main

import (
	"strconv"

	"distfs/content"
)

// A used is what status --size prints of one kind for programs.
type used struct {
	Kind  string `json:"kind"`
	Count int    `json:"count"`
	Size  int64  `json:"size"` // on disk
}

// usage prints what the store takes on disk.
func (p *program) usage(out *output) error {
	kinds, err := inStore(p, nil, (*content.Store).Usage)
	if err != nil {
		return err
	}
	all := make([]used, len(kinds))
	rows := make([][]string, len(kinds))
	total := used{Kind: "total"}
	row := func(u used) []string { return []string{u.Kind, strconv.Itoa(u.Count), humanSize(u.Size)} }
	for i, k := range kinds {
		all[i] = used{k.Kind, k.Count, k.Size}
		rows[i] = row(all[i])
		total.Count, total.Size = total.Count+k.Count, total.Size+k.Size
	}
	if out.json() {
		return p.printJSON(all)
	}
	return p.printTable([]string{"KIND", "COUNT", "SIZE"}, append(rows, row(total)))
}
