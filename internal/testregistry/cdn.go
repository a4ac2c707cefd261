package testregistry

import (
	"fmt"
	"net/http"
	"strings"
)

// sign returns a URL of the CDN for a blob, good for as many requests as the options say.
func (r *Registry) sign(repo, ref string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.issued++
	sig := fmt.Sprintf("s%d", r.issued)
	r.signed[sig] = 0
	return fmt.Sprintf("%s://%s/%s/%s?signature=%s", r.scheme(), r.cdn.addr, repo, ref, sig)
}

// ExpireSignatures makes every URL that was redirected to so far answer 403.
func (r *Registry) ExpireSignatures() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.signed)
}

// signatureHolds says whether a signature is good, and counts the use.
func (r *Registry) signatureHolds(sig string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.signed[sig]
	if !ok || r.opts.SignatureUses > 0 && n >= r.opts.SignatureUses {
		return false
	}
	r.signed[sig]++
	return true
}

// serveCDN answers as an object store behind a CDN: a signature in the query is all
// it wants, and an Authorization beside it is refused with 400, as S3 does.
func (r *Registry) serveCDN(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimPrefix(req.URL.Path, "/")
	i := max(0, strings.LastIndex(path, "/"))
	repo, ref := path[:i], strings.TrimPrefix(path[i:], "/")
	r.respond(w, req, r.begin(req, CDN, repo, ref), func(q *Request, _ *Fault) *answer {
		if q.Header.Get("Authorization") != "" {
			return plain(http.StatusBadRequest, "application/xml", "<Error><Code>InvalidArgument</Code></Error>")
		}
		if !r.signatureHolds(req.URL.Query().Get("signature")) {
			return plain(http.StatusForbidden, "application/xml", "<Error><Code>AccessDenied</Code></Error>")
		}
		o := r.blob(repo, ref)
		if o == nil {
			return plain(http.StatusNotFound, "application/xml", "<Error><Code>NoSuchKey</Code></Error>")
		}
		return r.bytesOf(o, q)
	})
}
