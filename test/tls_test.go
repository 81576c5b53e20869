package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/entity-sync/entity-sync/bridge/nsqbus"
	"github.com/entity-sync/entity-sync/es"
	"github.com/entity-sync/entity-sync/test/internal/nsqdtest"
)

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign returns a certificate for a server or client at 127.0.0.1, and its key.
func (a *authority) sign(t *testing.T) (cert, key []byte) {
	t.Helper()
	k := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

func (a *authority) pool(t *testing.T) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(a.pem) {
		t.Fatal("the authority's certificate cannot be read")
	}
	return pool
}

func file(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTLSToNSQ(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	cert, key := ours.sign(t)
	o := nsqdtest.Options{TLSCert: file(t, dir, "cert", cert), TLSKey: file(t, dir, "key", key)}
	oneSided := nsqdtest.StartWith(t, o)
	o.TLSClientCA = file(t, dir, "ca", ours.pem)
	mutual := nsqdtest.StartWith(t, o)
	plain := nsqdtest.Start(t)

	clientCert, clientKey := ours.sign(t)
	pair, err := tls.X509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	trusting := &tls.Config{RootCAs: ours.pool(t)}
	withCert := &tls.Config{RootCAs: ours.pool(t), Certificates: []tls.Certificate{pair}}

	for name, tt := range map[string]struct {
		nsqd  *nsqdtest.Daemon
		tls   *tls.Config
		works bool
	}{
		"TLS":                                     {oneSided, trusting, true},
		"TLS both ways":                           {mutual, withCert, true},
		"no certificate where one is asked for":   {mutual, trusting, false},
		"a server signed by somebody else":        {oneSided, &tls.Config{RootCAs: theirs.pool(t)}, false},
		"a server of another name":                {oneSided, &tls.Config{RootCAs: ours.pool(t), ServerName: "nsqd.example.com"}, false},
		"an nsqd without TLS":                     {plain, trusting, false},
		"an nsqd that asks for TLS, without it":   {oneSided, nil, false},
		"an nsqd without TLS, and none asked for": {plain, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var db database
			n := startNode(t, &db, es.Config{NSQAddr: tt.nsqd.Addr, NSQ: nsqbus.Config{TLS: tt.tls}})
			if !tt.works {
				if err := n.Notify(t.Context(), item("100")); err == nil {
					t.Error("Notify returned nil")
				}
				if n.Bridge.Ready() {
					t.Error("the node is on the bus")
				}
				return
			}
			untilReady(t, n)
			c := n.dial(t, "me")
			c.watch("100")
			rev := db.write("100")
			n.notify(t, "100")
			c.readUntil(rev)
		})
	}
}

// An nsqd that asks for authentication gets the secret, which must be right.
func TestAuthenticationToNSQ(t *testing.T) {
	t.Parallel()
	authd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("secret") != mark {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `{"ttl":3600,"identity":"test","authorizations":[{"permissions":["subscribe","publish"],"topic":".*","channels":[".*"]}]}`)
	}))
	t.Cleanup(authd.Close) // after the nodes: nsqd logs the question that it could not ask, with the secret
	nsqd := nsqdtest.StartWith(t, nsqdtest.Options{AuthAddrs: []string{strings.TrimPrefix(authd.URL, "http://")}})
	var db database
	n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr, NSQ: nsqbus.Config{AuthSecret: mark}})
	untilReady(t, n)
	n.notify(t, "100")
	for _, wrong := range []string{"", mark + "?"} {
		n := startNode(t, &db, es.Config{NSQAddr: nsqd.Addr, NSQ: nsqbus.Config{AuthSecret: wrong}})
		err := n.Notify(t.Context(), item("100"))
		if err == nil || n.Bridge.Ready() {
			t.Errorf("with the secret %q Notify returned %v", wrong, err)
		}
		if wrong != "" && strings.Contains(fmt.Sprint(err), wrong) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}
