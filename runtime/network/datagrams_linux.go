package network

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	maxDatagram = 64 << 10
	// maxFlows bounds the clients of a published port that are remembered:
	// the address of a datagram costs its sender nothing.
	maxFlows = 4096
)

// udpListener relays datagrams: those of a client make a flow, with an
// endpoint of its own in the namespace, so that answers find their way back.
type udpListener struct {
	*net.UDPConn
	published Port

	mu    sync.Mutex
	flows map[flowKey]*flow
}

// flowKey tells flows apart: by the client, and by the host's address that it
// sent to, which the answer must come from.
type flowKey struct {
	client netip.AddrPort
	info   packetInfo
}

func listenUDP(ctx context.Context, port Port) (*udpListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error { return receivePacketInfo(fd, port.HostIP) })
	}}
	at := netip.AddrPortFrom(port.HostIP, port.HostPort).String()
	c, err := config.ListenPacket(ctx, "udp"+family(port.HostIP), at)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UDPConn)
	port.HostPort = conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	return &udpListener{UDPConn: conn, published: port, flows: map[flowKey]*flow{}}, nil
}

// control runs fn on a socket, and returns its error too.
func control(c syscall.RawConn, fn func(fd int) error) error {
	var failed error
	if err := c.Control(func(fd uintptr) { failed = fn(int(fd)) }); err != nil {
		return err
	}
	return failed
}

func (l *udpListener) port() Port { return l.published }

func (l *udpListener) serve(p *Published) {
	var wait backoff
	data, oob := make([]byte, maxDatagram), make([]byte, packetInfoSpace)
	for {
		n, oobn, _, client, err := l.ReadMsgUDPAddrPort(data, oob)
		if err == nil {
			wait = 0
			l.deliver(p, flowKey{client, parsePacketInfo(oob[:oobn])}, data[:n])
			continue
		}
		if errors.Is(err, net.ErrClosed) || !wait.pause(p.ctx) {
			return
		}
	}
}

// deliver sends a datagram on in its client's flow. One that finds no place
// is lost, as datagrams may be.
func (l *udpListener) deliver(p *Published, key flowKey, data []byte) {
	f, err := l.flow(p, key)
	if err == nil {
		f.send(data)
	}
}

var errManyFlows = errors.New("too many flows")

// flow finds a client's flow, or begins it.
func (l *udpListener) flow(p *Published, key flowKey) (*flow, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.flows[key]; f != nil {
		return f, nil
	}
	if len(l.flows) == maxFlows {
		return nil, errManyFlows
	}
	f, err := newFlow(p.ns.stack, l.published.ContainerPort)
	if err != nil {
		return nil, err
	}
	l.flows[key] = f
	p.running.Go(func() { l.answer(p.ctx, key, f) })
	return f, nil
}

// answer passes the container's datagrams back until the flow ends.
func (l *udpListener) answer(ctx context.Context, key flowKey, f *flow) {
	defer func() {
		l.mu.Lock()
		delete(l.flows, key)
		l.mu.Unlock()
		f.close()
	}()
	var buf bytes.Buffer
	oob := key.info.message()
	for f.receive(ctx, &buf) {
		// A client that is gone is no reason to end: its flow falls silent.
		_, _, err := l.WriteMsgUDPAddrPort(buf.Bytes(), oob, key.client)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		buf.Reset()
	}
}

// flow is one client's exchange of datagrams with a port of the container. It
// ends when it has been silent for udpIdle, or when the port is closed.
type flow struct {
	stack *userStack
	port  uint16
	timer *time.Timer

	mu       sync.Mutex
	active   time.Time
	ways     []way // those that were not tried yet
	endpoint tcpip.Endpoint
	ready    <-chan struct{}
	// last is the datagram to repeat on the next way when the port is closed
	// on this one, as long as there was no answer.
	last     []byte
	answered bool
}

func newFlow(u *userStack, port uint16) (*flow, error) {
	f := &flow{stack: u, port: port, ways: u.ways(), active: time.Now(), timer: time.NewTimer(udpIdle)}
	return f, f.connect()
}

// connect makes the endpoint of the next way.
func (f *flow) connect() error {
	w := f.ways[0]
	f.ways = f.ways[1:]
	var queue waiter.Queue
	ep, err := f.stack.stack.NewEndpoint(udp.ProtocolNumber, w.protocol, &queue)
	if err != nil {
		return stackError("create endpoint", err)
	}
	ep.SocketOptions().SetReceiveBufferSize(bufferSize, true)
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr)
	queue.EventRegister(&entry)
	if err := ep.Bind(w.from()); err != nil {
		ep.Close()
		return stackError("bind endpoint", err)
	}
	if err := ep.Connect(w.to(f.port)); err != nil {
		ep.Close()
		return stackError("connect endpoint", err)
	}
	f.endpoint, f.ready = ep, ready
	return nil
}

func (f *flow) close() {
	f.timer.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endpoint.Close()
}

// send passes a client's datagram on.
func (f *flow) send(data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active = time.Now()
	if !f.answered {
		f.last = append(f.last[:0], data...)
	}
	_, err := f.endpoint.Write(bytes.NewReader(data), tcpip.WriteOptions{})
	if refused(err) && !f.turn() {
		f.endpoint.Close() // the flow ends: the next datagram begins a new one
	}
}

// refused is true for the answer of a closed port. It comes with a later call
// than the one that it answers.
func refused(err tcpip.Error) bool {
	_, ok := err.(*tcpip.ErrConnectionRefused)
	return ok
}

// turn takes the next way, and repeats there what was not answered.
func (f *flow) turn() bool {
	if f.answered || len(f.ways) == 0 {
		return false
	}
	f.endpoint.Close()
	if f.connect() != nil {
		return false
	}
	_, err := f.endpoint.Write(bytes.NewReader(f.last), tcpip.WriteOptions{})
	return err == nil
}

// receive waits for the container's next datagram. It returns false at the
// end of the flow.
func (f *flow) receive(ctx context.Context, buf *bytes.Buffer) bool {
	for {
		done, ready := f.try(buf)
		if done {
			return ready != nil
		}
		if !f.wait(ctx, ready) {
			return false
		}
	}
}

// try reads a datagram, if there is one. It returns the channel to wait on,
// which is nil at the end of the flow.
func (f *flow) try(buf *bytes.Buffer) (done bool, ready <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.endpoint.Read(buf, tcpip.ReadOptions{})
	if _, empty := err.(*tcpip.ErrWouldBlock); empty {
		return false, f.ready
	}
	if refused(err) && f.turn() {
		return false, f.ready
	}
	if err != nil {
		return true, nil
	}
	f.active, f.answered, f.last = time.Now(), true, nil
	return true, f.ready
}

// wait returns false when there is nothing to wait for any more.
func (f *flow) wait(ctx context.Context, ready <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-ready:
		return true
	case <-f.timer.C:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	left := udpIdle - time.Since(f.active)
	f.timer.Reset(max(left, 0))
	return left > 0
}
