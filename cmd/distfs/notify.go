package main

import (
	"context"
	"fmt"
	"net"
	"os"
)

// notify tells a service manager what this process is about, READY=1 or
// STOPPING=1, if NOTIFY_SOCKET names a socket, as systemd's Type=notify does:
// sd_notify(3). A name that begins with @ is an abstract one.
func notify(ctx context.Context, state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixgram", name)
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return nil
}
