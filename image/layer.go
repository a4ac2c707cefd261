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
