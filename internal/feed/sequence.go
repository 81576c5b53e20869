package feed

import "time"

// maxAhead bounds the numbers remembered beyond a hole. So many messages cannot have
// overtaken a missing one: it counts as lost at once.
const maxAhead = 4096

// sequence is the numbers heard of one publisher.
type sequence struct {
	through uint64              // every number up to this is accounted for
	reached uint64              // the highest number known to have been used
	ahead   map[uint64]struct{} // numbers heard beyond through
	midway  bool                // first heard of in the middle of its count; no gap was reported since
	heard   time.Time           // when anything was heard last

	// The numbers that are missing and within their grace, up to upTo.
	since    time.Time // when the hole was noticed; zero if there is none
	upTo     uint64
	position uint64 // Config.Position at that time
}

// hasHole reports whether anything is missing.
func (s *sequence) hasHole() bool { return s.midway || s.through != s.reached }

// suspect starts the grace of the present hole.
func (s *sequence) suspect(now time.Time, position uint64) {
	s.since, s.upTo, s.position = now, s.reached, position
}

// isFarBehind reports whether a message's number is far below the publisher's last ones.
// Such a message comes from another process with the same name.
func (s *sequence) isFarBehind(m message) bool {
	return !m.isBeat() && s.through > maxAhead && m.Seq < s.through-maxAhead
}

// take accounts for a message's number.
func (s *sequence) take(m message) {
	s.reached = max(s.reached, m.Seq)
	if m.isBeat() || m.Seq <= s.through {
		return
	}
	switch {
	case m.Seq == s.through+1: // as nearly always
		s.through++
		s.advance()
	case len(s.ahead) < maxAhead:
		if s.ahead == nil {
			s.ahead = make(map[uint64]struct{})
		}
		s.ahead[m.Seq] = struct{}{}
	}
}

// advance moves through over the numbers that were heard ahead of it.
func (s *sequence) advance() {
	for {
		if _, ok := s.ahead[s.through+1]; !ok {
			return
		}
		s.through++
		delete(s.ahead, s.through)
	}
}

// settle gives up the numbers that are missing and past their grace, and returns how many
// they are. A number that is missing since then stays missing, with a grace of its own.
func (s *sequence) settle() (lost uint64) {
	if s.midway {
		s.midway = false
		return 0
	}
	lost = s.upTo - s.through
	for number := range s.ahead {
		if number <= s.upTo {
			lost--
			delete(s.ahead, number)
		}
	}
	s.through = s.upTo
	s.advance()
	return lost
}
