package main

import (
	"slices"
	"strings"

	"distfs/content"

	"github.com/spf13/cobra"
)

// completeDigests completes digests of the store's blobs.
func (p *program) completeDigests(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return p.complete(cmd, typed, (*program).digestsLike), cobra.ShellCompDirectiveNoFileComp
}

// completeStored completes images' names, and digests of the store's blobs
// where one was begun.
func (p *program) completeStored(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	all := p.complete(cmd, typed, func(p *program, store *content.Store, typed string) []string {
		words := p.namesLike(store, typed)
		if typed != "" {
			words = append(words, p.digestsLike(store, typed)...)
		}
		return words
	})
	all = slices.DeleteFunc(all, func(word string) bool { return slices.Contains(args, word) })
	return all, cobra.ShellCompDirectiveNoFileComp
}

// complete returns what words finds in the store, if there is one.
func (p *program) complete(cmd *cobra.Command, typed string, words func(*program, *content.Store, string) []string) []string {
	if p.settle(cmd) != nil {
		return nil
	}
	store, err := p.existing()
	if err != nil {
		return nil
	}
	defer store.Close()
	return words(p, store, typed)
}

func (p *program) digestsLike(store *content.Store, typed string) []string {
	blobs, _ := store.Blobs()
	var words []string
	for _, info := range blobs {
		if strings.HasPrefix(string(info.Digest), typed) {
			words = append(words, string(info.Digest))
		}
	}
	return words
}

// namesLike returns names that begin with typed, in full or as docker has them.
func (p *program) namesLike(store *content.Store, typed string) []string {
	images, _ := store.Images()
	var words []string
	for _, m := range images {
		name := imageName(m)
		short := strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/")
		for _, word := range []string{name, short} {
			if strings.HasPrefix(word, typed) && oneLine(word) == word {
				words = append(words, word)
				break
			}
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
}
