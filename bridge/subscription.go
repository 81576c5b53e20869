package bridge

import "github.com/entity-sync/entity-sync/shared"

// want is what a member is owed apart from notifications of the key.
type want uint8

const (
	wantNothing      want = iota
	wantDifference        // the next result, if it differs from what was last sent
	wantConfirmation      // the next result, or word that it does not differ
	wantResult            // the next result
	wantFirst             // the same, of a client that has nothing: an older one than others have as well
)

func wantedBy(has Version) want {
	if has == (Version{}) {
		return wantFirst
	}
	return wantConfirmation
}

// subscription is one client's place in one view.
type subscription struct {
	client *Client
	slot   Slot // where the newest update waits to be written; guarded by the client's sink

	// Guarded by the client's lock.
	view     *view // the last one, where the subscription has ended
	snapshot bool  // the client is owed the state itself, not only changes of it

	// Guarded by the view's lock.
	wants  want    // what it is owed of the next result
	asked  bool    // since it joined the view, whether its scope is still the view's
	place  int32   // in view.members, or noPlace
	fetch  uint64  // number of the fetch that its last update came from; older ones are not for this member
	sent   Version // of the last update handed to the client; zero before the first
	secret shared.Secret
}

// noPlace is the place of a subscription that was refused: it is no member.
const noPlace = -1

// Key implements compact.Keyed.
func (s *subscription) Key() shared.EntityKey { return s.view.key() }
