// Command cmd writes the image of package mkimage into a directory; testdata/mkimage.sh runs it.
package main

import (
	"fmt"
	"os"

	"distfs/internal/mkimage"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: mkimage DIR")
		os.Exit(2)
	}
	if err := mkimage.Write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}
