package proxies

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/internal/testkit"
)

// software is a proxy that can be had.
type software struct {
	name   string
	probes bool          // it asks the nodes whether they are ready,
	drain  time.Duration // and needs this DrainDelay of theirs to hear that they are not

	// configure writes the proxy's files, with the page's block for it among them, and
	// returns the command that runs it.
	configure func(t *testing.T, s site) []string
}

// site is where a proxy runs and what for.
type site struct {
	dir   string
	addr  string // host:port where it listens
	nodes [2]*node
	cert  certificate
}

// proxy is one that runs.
type proxy struct {
	host string // host:port as clients know it
	tls  *tls.Config
}

// start runs a proxy in front of two nodes until the test ends.
func (w software) start(t *testing.T, nodes [2]*node) *proxy {
	t.Helper()
	for range 3 { // another program may have taken its port
		if p := w.try(t, site{dir: t.TempDir(), addr: testkit.FreeAddr(t), nodes: nodes, cert: newCertificate(t)}); p != nil {
			return p
		}
	}
	t.Fatalf("%s does not answer", w.name)
	return nil
}

// try returns nil where the proxy does not answer.
func (w software) try(t *testing.T, s site) *proxy {
	t.Helper()
	command := w.configure(t, s)
	command[0] = find(t, command[0])
	// The shell ends the proxy when the pipe closes, which it does with the test,
	// however that ends.
	cmd := exec.Command("sh", append([]string{"-c", `"$@" & read -r _; kill $!; wait $!`, "sh"}, command...)...)
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_DATA_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pipe.Close()
		cmd.Wait() // says how the proxy ended, which depends on the proxy
	})
	p := &proxy{host: s.addr, tls: &tls.Config{RootCAs: s.cert.pool}}
	if w.name == "caddy" { // has a name, and a certificate of its own for it
		_, port, _ := net.SplitHostPort(s.addr)
		p.host = net.JoinHostPort("localhost", port)
		p.tls.RootCAs = x509.NewCertPool()
		if !testkit.Within(patience, func() bool {
			root, err := os.ReadFile(filepath.Join(s.dir, "caddy/pki/authorities/local/root.crt"))
			return err == nil && p.tls.RootCAs.AppendCertsFromPEM(root)
		}) {
			return nil
		}
	}
	if !testkit.Within(patience/2, func() bool {
		_, err := p.get(t, "/livez")
		return err == nil
	}) {
		return nil
	}
	return p
}

// find returns the path of a program. Debian puts some where only root looks.
func find(t *testing.T, program string) string {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program, "/usr/local/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("%s is missing: .ci/dependencies installs it", program)
	return ""
}

// write writes one of a proxy's files, and returns its path.
func (s site) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// block is the page's for a proxy, with the nodes' addresses.
func (s site) block(t *testing.T, language string) string {
	t.Helper()
	return substitute(t, blockOf(t, language), "10.0.0.11:8080", s.nodes[0].Addr, "10.0.0.12:8080", s.nodes[1].Addr)
}

var nginx = software{name: "nginx", configure: func(t *testing.T, s site) []string {
	block := substitute(t, s.block(t, "nginx"), "listen 443 ", "listen "+s.addr+" ",
		"/etc/ssl/app.example.com.pem", s.cert.certFile, "/etc/ssl/app.example.com.key", s.cert.keyFile)
	s.write(t, "block.conf", withoutPart(t, "nginx", block))
	conf := fmt.Sprintf("daemon off; error_log stderr notice; pid %[1]s/nginx.pid; worker_processes 2; events {} http { access_log off;\n", s.dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		conf += fmt.Sprintf("%s_temp_path %s/%[1]s;\n", kind, s.dir)
	}
	return []string{"nginx", "-e", "stderr", "-p", s.dir, "-c", s.write(t, "nginx.conf", conf+"include block.conf; }\n")}
}}

var haproxy = software{name: "haproxy", probes: true, drain: 3 * time.Second, configure: func(t *testing.T, s site) []string {
	block := substitute(t, s.block(t, "haproxy"), "bind :443 ", "bind "+s.addr+" ", "/etc/haproxy/app.example.com.pem", s.cert.bothFile)
	return []string{"haproxy", "-db", "-f", s.write(t, "haproxy.cfg", withoutPart(t, "haproxy", block))}
}}

var caddy = software{name: "caddy", probes: true, drain: 3 * time.Second, configure: func(t *testing.T, s site) []string {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	block := substitute(t, s.block(t, "caddy"), "app.example.com {", "localhost:"+port+" {")
	global := "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n}\n"
	return []string{"caddy", "run", "--adapter", "caddyfile", "--config", s.write(t, "Caddyfile", global+withoutPart(t, "caddy", block))}
}}
