package image

import (
	"strconv"
	"strings"
)

// LayerName returns what the i-th layer's blob is called, by its media type:
// "0.tar", "0.tar.gz", "0.tar.zst"; "0.json" for JSON, and "0.blob" for what is
// none of these.
func LayerName(i int, mediaType string) string {
	return strconv.Itoa(i) + layerSuffix(essence(mediaType))
}

// IsLayer says whether mediaType is one of a file system's layers: a tar,
// compressed or not.
func IsLayer(mediaType string) bool {
	return strings.HasPrefix(layerSuffix(essence(mediaType)), ".tar")
}

// isImageLayer says whether a layer's type is one that OCI's or docker's images
// have; artifacts may have tars of their own types.
func isImageLayer(mediaType string) bool {
	mediaType = essence(mediaType)
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.")
}

// IsForeign says whether a layer is not for others to distribute (image-spec
// v1.1, layer.md, "Non-Distributable Layers").
func IsForeign(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.v1.tar") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.diff.tar")
}

// layerSuffix knows OCI's spelling of a compression, "tar+gzip", and
// docker's, "tar.gzip".
func layerSuffix(mediaType string) string {
	base, compression := mediaType, ""
	if i := strings.LastIndexAny(mediaType, "+."); i >= 0 {
		switch mediaType[i+1:] {
		case "gzip":
			base, compression = mediaType[:i], ".gz"
		case "zstd":
			base, compression = mediaType[:i], ".zst"
		case "json":
			return ".json"
		}
	}
	if i := strings.LastIndexAny(base, "./-"); base[i+1:] == "tar" {
		return ".tar" + compression
	}
	return ".blob"
}
