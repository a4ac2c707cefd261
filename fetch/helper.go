package fetch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2/registry/remote/auth"
)

const (
	helperTimeout = 15 * time.Second // how long a credential helper may take, at most
	helperLinger  = time.Second      // how long its children may keep its output open
	maxHelperSays = 1 << 20          // bytes
)

// helperHasNone is what a helper says, and fails, that knows no such server
// (docker-credential-helpers, credentials/error.go).
const helperHasNone = "credentials not found in native keychain"

// askHelper runs docker-credential-NAME, which is told the server on its
// standard input and answers with JSON. One that does not answer in time is
// killed, with its children; the error is then os.ErrDeadlineExceeded, and else
// iofs.ErrPermission. It leaves no core file. Nothing that it said is in an
// error. One that has no credentials returns auth.EmptyCredential.
func askHelper(ctx context.Context, name, server string, timeout time.Duration) (auth.Credential, error) {
	program := "docker-credential-" + name
	if strings.ContainsAny(name, "/\x00") {
		return auth.EmptyCredential, noCredentials("%q is no helper's name", name)
	}
	late := &kindError{fmt.Errorf("credentials: %s did not answer within %v", program, timeout), os.ErrDeadlineExceeded}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	said, err := runHelper(ctx, program, server)
	switch {
	case ctx.Err() != nil:
		return auth.EmptyCredential, context.Cause(ctx)
	case err != nil && strings.TrimSpace(string(said)) == helperHasNone:
		return auth.EmptyCredential, nil
	case err != nil:
		return auth.EmptyCredential, noCredentials("%s: %v", program, err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(said, &answer); err != nil {
		return auth.EmptyCredential, noCredentials("%s: its answer is no JSON object", program)
	}
	if answer.Username == "<token>" {
		return auth.Credential{RefreshToken: answer.Secret}, nil
	}
	return auth.Credential{Username: answer.Username, Password: answer.Secret}, nil
}

// runHelper returns what a helper said until it ended, or ctx did. It knows
// nothing secret before it reads its input, and by then it may not dump core.
func runHelper(ctx context.Context, program, server string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = helperLinger
	var said boundedBuffer
	cmd.Stdout = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err = unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil); err == nil {
		_, _ = io.WriteString(in, server) // one that does not read says why by its status
	}
	in.Close()
	err = errors.Join(cmd.Wait(), err)
	return said.b.Bytes(), err
}

// A boundedBuffer takes what a helper may say and refuses more.
type boundedBuffer struct{ b bytes.Buffer }

func (w *boundedBuffer) Write(p []byte) (int, error) {
	if w.b.Len()+len(p) > maxHelperSays {
		return 0, fmt.Errorf("it says more than %d bytes", maxHelperSays)
	}
	return w.b.Write(p)
}

// HideMemory keeps this process's memory, which has credentials in it, out of
// core files and from other processes of the same user (PR_SET_DUMPABLE,
// prctl(2)). A process that serves for long calls it once, when it starts.
func HideMemory() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_DUMPABLE: %w", err)
	}
	return nil
}
