// Package transfer moves whole images.
//
// Fetch brings an image into a store: what names what is read first, and counted,
// level by level, before anything of it is fetched; then all of it comes, a few
// objects at a time; then it gets its name. From before an object is looked for
// until then it is held, so that nothing of an image which has a name was evicted
// meanwhile. Pull does the same, and unpacks the layers as they arrive. Who sends
// the bytes, and how they become a store's, is a Source's business.
//
// An Unpacker makes a tree of an image's layers, as a runtime needs it: with
// owners, modes, times to the nanosecond, extended attributes, hard links and
// devices, and without what whiteouts hide. It holds to this:
//
//   - Nothing outside of its directory is opened, made, changed or removed. Each
//     directory is opened by its name in the one above, and never if it is a
//     link; so is whatever is in it. A link on the way to an entry leads where it
//     would with the directory for a root: it is read, and where it leads is
//     walked to in the same way.
//   - A whiteout hides what lower layers have, never what its own layer brings,
//     in whatever order the tar has the two.
//   - Entries of a layer count in their order: the later takes the earlier one's
//     place. A directory over a directory keeps what that has.
//   - A directory has the times that its layer gave it, whatever was put into it
//     later.
//   - Whoever unpacks the same layers once more, from the first, over the result
//     or over what an interrupted run left, gets the same tree; if layers have
//     entries for the directories of what is in them, as a walk gives them. Where
//     one has not, and a later entry made a link of such a directory, the second
//     run goes along the link.
//   - Memory is bounded, whatever the layer's size; so are bytes, entries and the
//     ways to them.
//
// Where a user may not do what a layer says, the tree lacks it and Losses count it.
//
// An Import takes images out of a layout or an archive into a store, and an
// Export writes some. Names in an archive are no paths here, and of a layout
// nothing outside of its directory is opened. An image is imported only if all
// that it is made of came with it, but for layers that are not for others to
// distribute: that the store has a blob already is no word of the archive's, whose
// bytes are read and compared all the same. What is exported depends on the images
// and on nothing else; a layout or an OCI archive goes without these layers.
package transfer
