package bridge

import (
	"testing"
	"unsafe"
)

// There are as many of these as there are subscriptions. One byte more would be
// sixteen: those are the next sizes that the runtime has.
func TestSizes(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return // the sizes are those of 64 bits
	}
	for what, size := range map[string]struct{ got, most uintptr }{
		"a view":         {unsafe.Sizeof(view{}), 112},
		"a subscription": {unsafe.Sizeof(subscription{}), 80},
	} {
		if size.got > size.most {
			t.Errorf("%s has %d bytes, want %d at most", what, size.got, size.most)
		}
	}
}
