package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"distfs/internal/slowlink"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const imageRepo = "bench/image"

// imageServed has the image in the registry, as gzip.
func (b *bench) imageServed() error { return b.formatServed(imageTag) }

// formatServed has the image in the registry, in the format of that tag.
func (b *bench) formatServed(tag string) error {
	dir, err := b.imageLayout(tag)
	if err != nil || b.served[tag] {
		return err
	}
	b.served[tag] = true
	_, err = timed(b.skopeoPush(dir, tag, b.host))
	return err
}

func (b *bench) skopeoPush(layout, tag, host string) *exec.Cmd {
	return exec.CommandContext(b.ctx, "skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false", "oci:"+layout+":"+tag, "docker://"+host+"/"+imageRepo+":"+tag)
}

// own runs distfs on the store that all of these cases use, and notes its memory.
func (b *bench) own(args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(b.ctx, b.distfs, append([]string{"--store", b.path("store"), "--log-level", "error"}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { b.watch(cmd.Process.Pid, done) })
	err := cmd.Wait()
	d := time.Since(start)
	close(done)
	watch.Wait()
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", cmd, err, said.String())
	}
	return d, nil
}

// watch notes how much memory a process takes until it is done. What wait(2)
// tells is no less than this program had when it started the other.
func (b *bench) watch(pid int, done <-chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			b.imagePeak = max(b.imagePeak, peakKiB(pid))
		}
	}
}

// fetchImage compares fetching the image with what crane does, synced.
func (b *bench) fetchImage() (string, string, error) {
	if err := b.imageServed(); err != nil {
		return "", "", err
	}
	return b.fetchFrom(*runs)
}

func (b *bench) fetchFrom(runs int) (string, string, error) {
	ref := b.host + "/" + imageRepo + ":" + imageTag
	pairs, err := compare(runs,
		func() (time.Duration, error) {
			if err := fresh(b.path("store")); err != nil {
				return 0, err
			}
			return b.own("fetch", "--progress=none", ref)
		},
		func() (time.Duration, error) {
			if err := fresh(b.path("crane.oci")); err != nil {
				return 0, err
			}
			return timed(exec.CommandContext(b.ctx, "sh", "-c", `"$0" pull --insecure --format=oci "$1" "$2" && find "$2" -type f -exec sync {} +`, b.crane, ref, b.path("crane.oci")))
		})
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}

func (b *bench) fetchSlowly() (string, string, error) {
	if err := b.imageServed(); err != nil {
		return "", "", err
	}
	link, err := slowlink.Listen(b.host, slowlink.Options{RTT: rtt, Bandwidth: 20_000_000})
	if err != nil {
		return "", "", err
	}
	defer link.Close()
	slow := *b
	slow.host = link.Addr()
	measured, detail, err := slow.fetchFrom(min(3, *runs))
	b.imagePeak = slow.imagePeak
	return measured, detail, err
}

// pullImage compares pulling the image into a tree with another way there.
func (b *bench) pullImage(other func() (time.Duration, error)) (string, string, error) {
	if err := b.imageServed(); err != nil {
		return "", "", err
	}
	pairs, err := compare(*runs, func() (time.Duration, error) {
		if err := errors.Join(fresh(b.path("store")), fresh(b.path("tree"))); err != nil {
			return 0, err
		}
		return b.own("pull", "--progress=none", b.host+"/"+imageRepo+":"+imageTag, b.path("tree"))
	}, other)
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}

func (b *bench) skopeoAndUmoci() (time.Duration, error) {
	if err := errors.Join(fresh(b.path("skopeo.oci")), fresh(b.path("bundle"))); err != nil {
		return 0, err
	}
	return timed(exec.CommandContext(b.ctx, "sh", "-c", `skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$0" "oci:$1:1" && umoci --log=error unpack --image "$1:1" "$2"`,
		b.host+"/"+imageRepo+":"+imageTag, b.path("skopeo.oci"), b.path("bundle")))
}

// curlAndTar does no more than a shell needs to: nothing is verified or kept,
// and whiteouts are files.
func (b *bench) curlAndTar() (time.Duration, error) {
	if err := fresh(b.path("tarred")); err != nil {
		return 0, err
	}
	layers, err := b.layers(imageTag)
	if err != nil {
		return 0, err
	}
	script := `mkdir "$1"; d="$1"; shift; for u; do curl -sS "$u" | tar xz -C "$d" || exit 1; done`
	args := []string{"-c", script, "sh", b.path("tarred")}
	for _, l := range layers {
		args = append(args, b.layerURL(l.Digest))
	}
	return timed(exec.CommandContext(b.ctx, "sh", args...))
}

func (b *bench) layerURL(dgst digest.Digest) string {
	return "http://" + b.host + "/v2/" + imageRepo + "/blobs/" + dgst.String()
}

// layers are those of the image in a format.
func (b *bench) layers(tag string) ([]ocispec.Descriptor, error) {
	var index ocispec.Index
	var m ocispec.Manifest
	dir := b.path("image-" + tag)
	if err := readJSON(dir+"/index.json", &index); err != nil {
		return nil, err
	}
	err := readJSON(dir+"/blobs/sha256/"+index.Manifests[0].Digest.Encoded(), &m)
	return m.Layers, err
}

func readJSON(name string, v any) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// pushImage compares sending the image to a registry that has nothing.
func (b *bench) pushImage() (string, string, error) {
	if err := b.imageServed(); err != nil {
		return "", "", err
	}
	if err := fresh(b.path("store")); err != nil {
		return "", "", err
	}
	ref := b.host + "/" + imageRepo + ":" + imageTag
	if _, err := b.own("fetch", "--progress=none", ref); err != nil {
		return "", "", err
	}
	toEmpty := func(push func(host string) (time.Duration, error)) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			root := b.path("empty")
			if err := fresh(root); err != nil {
				return 0, err
			}
			empty := *b
			empty.registry = nil
			if err := empty.serve(root); err != nil {
				return 0, err
			}
			defer empty.close()
			return push(empty.host)
		}
	}
	pairs, err := compare(*runs,
		toEmpty(func(host string) (time.Duration, error) {
			return b.own("push", "--progress=none", ref, host+"/"+imageRepo+":"+imageTag)
		}),
		toEmpty(func(host string) (time.Duration, error) {
			return timed(b.skopeoPush(b.path("image-"+imageTag), imageTag, host))
		}))
	if err != nil {
		return "", "", err
	}
	return fmt.Sprintf("%.2f", ratio(pairs)), medians(pairs), nil
}
