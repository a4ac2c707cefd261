package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"distfs/content"
	"distfs/fetch"
	"distfs/fs"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// The protocol of a process's socket: a request is a line of JSON, and so is
// its answer. Any number of requests may follow each other on one connection.
//
//	{"op":"status"}              a processStatus
//	{"op":"stat","path":"a/b"}   of a mount: a fileInfo; the path is from the mount's root
//
// What is asked for something else, or cannot be answered, is {"error":"…"}.

// A question is a request.
type question struct {
	Op   string `json:"op"`
	Path string `json:"path,omitempty"`
}

// A processStatus is what a process does.
type processStatus struct {
	PID        int        `json:"pid"`
	Command    string     `json:"command,omitempty"`
	State      string     `json:"state,omitempty"` // "not answering", or absent
	Started    *time.Time `json:"started,omitempty"`
	Mountpoint string     `json:"mountpoint,omitempty"`
	Device     string     `json:"device,omitempty"` // of the mount, as in mountinfo
	Active     []progress `json:"active"`
	More       int        `json:"more,omitempty"` // that are active too
}

// A progress is an object that is under way.
type progress struct {
	Ref       string        `json:"ref"`
	MediaType string        `json:"mediaType,omitempty"`
	Digest    digest.Digest `json:"digest,omitempty"`
	State     fetch.State   `json:"state"`
	Size      int64         `json:"size"`            // what is here, wherever it lies
	Offset    int64         `json:"offset"`          // up to where nothing is missing
	Total     *int64        `json:"total,omitempty"` // absent while unknown
	Rate      int64         `json:"rate"`            // bytes a second that arrive
	Started   *time.Time    `json:"started,omitempty"`
	Updated   *time.Time    `json:"updated,omitempty"`
}

const (
	maxClients  = 16
	maxQuestion = 32 << 10 // bytes of a line
	maxAnswer   = 16 << 20
	maxActive   = 4096 // objects that one answer tells of
	// clientPatience is how long a client may take to ask and to read its answer.
	clientPatience = 5 * time.Second
)

// A control answers at this process's socket in the store. Its methods do
// nothing where there is none.
type control struct {
	command string
	began   time.Time
	active  func() []fetch.Progress
	log     *slog.Logger
	l       net.Listener
	wg      sync.WaitGroup

	mu      sync.Mutex
	mounted *fs.Mounted       // nil before it serves; guarded by mu
	clients map[net.Conn]bool // nil once it is closed; guarded by mu
}

// attend has others see what is active, until close. A process that cannot be
// seen works all the same.
func (p *program) attend(store *content.Store, active func() []fetch.Progress, command string) *control {
	l, err := store.Listen()
	if err != nil {
		p.log.Warn("not seen by distfs status", "err", err)
		return nil
	}
	c := &control{command: command, began: time.Now(), active: active, log: p.log, l: l, clients: make(map[net.Conn]bool)}
	c.wg.Go(c.accept)
	return c
}

// serves says that this process serves a mount.
func (c *control) serves(m *fs.Mounted) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mounted = m
}

// close ends every connection and takes the socket away.
func (c *control) close() {
	if c == nil {
		return
	}
	c.l.Close()
	c.mu.Lock()
	for conn := range c.clients {
		conn.Close()
	}
	c.clients = nil
	c.mu.Unlock()
	c.wg.Wait()
}

func (c *control) accept() {
	for {
		conn, err := c.l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			c.log.Warn("control", "err", err)
			time.Sleep(time.Second) // no descriptor is free, say
		case !c.admit(conn):
			conn.Close()
		}
	}
}

// admit serves conn, unless there are too many or it is another user's.
func (c *control) admit(conn net.Conn) bool {
	if err := checkPeer(conn); err != nil {
		c.log.Warn("control", "err", err)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clients == nil || len(c.clients) >= maxClients {
		return false
	}
	c.clients[conn] = true
	c.wg.Go(func() {
		c.serve(conn)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.clients, conn)
		conn.Close()
	})
	return true
}

// checkPeer refuses the connection of another user: the socket's mode does,
// too, but whoever was handed a connection or the directory would pass that.
func checkPeer(conn net.Conn) error {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return fmt.Errorf("peer: %w", os.ErrInvalid)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	if failed != nil {
		return fmt.Errorf("peer: %w", failed)
	}
	if int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("peer: process %d is of uid %d: %w", peer.Pid, peer.Uid, os.ErrPermission)
	}
	return nil
}

// serve answers what is asked on conn, until its end or something is wrong.
func (c *control) serve(conn net.Conn) {
	r := bufio.NewReaderSize(conn, maxQuestion)
	enc := json.NewEncoder(conn)
	for {
		if err := conn.SetDeadline(time.Now().Add(clientPatience)); err != nil {
			return
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			if errors.Is(err, bufio.ErrBufferFull) {
				_ = enc.Encode(refusal{"the request is too long"})
			}
			return
		}
		if enc.Encode(c.answer(line)) != nil {
			return
		}
	}
}

// A refusal is the answer to what cannot be answered.
type refusal struct {
	Error string `json:"error"`
}

func (c *control) answer(line []byte) any {
	var q question
	if err := json.Unmarshal(line, &q); err != nil {
		return refusal{"no request: " + err.Error()}
	}
	switch q.Op {
	case "status":
		return c.status()
	case "stat":
		return c.stat(q.Path)
	}
	return refusal{fmt.Sprintf("no op %q", q.Op)}
}

func (c *control) status() processStatus {
	s := processStatus{PID: os.Getpid(), Command: c.command, Started: stamp(c.began), Active: []progress{}}
	c.mu.Lock()
	if c.mounted != nil {
		at := c.mounted.Place()
		s.Mountpoint, s.Device = at.Mountpoint, at.Device
	}
	c.mu.Unlock()
	all := c.active()
	if len(all) > maxActive {
		s.More = len(all) - maxActive
		all = all[:maxActive]
	}
	for _, a := range all {
		o := progress{
			Ref: a.Ref, MediaType: a.MediaType, Digest: a.Digest, State: a.State,
			Size: a.Here, Offset: a.Offset, Rate: a.Rate, Started: stamp(a.Started), Updated: stamp(a.Updated),
		}
		if a.Total >= 0 {
			o.Total = &a.Total
		}
		s.Active = append(s.Active, o)
	}
	return s
}

func (c *control) stat(path string) any {
	c.mu.Lock()
	mounted := c.mounted
	c.mu.Unlock()
	if mounted == nil {
		return refusal{"this process serves no mount"}
	}
	info, err := mounted.Stat(path)
	if err != nil {
		return refusal{err.Error()}
	}
	return newFileInfo(info)
}

// askPatience is how long a process may take to answer. One that is stopped
// takes connections and never answers.
const askPatience = 5 * time.Second

// ask asks a process, and has answer be what it says.
func ask(ctx context.Context, store *content.Store, of content.Process, q question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	conn, err := store.Dial(ctx, of)
	if err != nil {
		return fmt.Errorf("process %d: %w", of.PID, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return fmt.Errorf("process %d: %w", of.PID, err)
	}
	var raw json.RawMessage
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&raw); err != nil {
		return fmt.Errorf("process %d: %w", of.PID, err)
	}
	var refused refusal
	if err := json.Unmarshal(raw, &refused); err == nil && refused.Error != "" {
		return errors.New(refused.Error)
	}
	return json.Unmarshal(raw, answer)
}
