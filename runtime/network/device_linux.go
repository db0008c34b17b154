package network

import "os"

// DeviceKind is the device that private networks get on this machine: "tun",
// or "veth" where /dev/net/tun may not be opened.
func DeviceKind() string {
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return "veth"
	}
	tun.Close()
	return "tun"
}
