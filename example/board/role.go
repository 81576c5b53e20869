package main

import "github.com/entity-sync/entity-sync/shared"

// Role is what a secret entitles its holder to.
type Role string

// The roles of the board. A person of the role Nobody may see and do nothing.
const (
	Nobody  Role = ""
	Guest   Role = "guest"
	Manager Role = "manager"
)

// The secrets of the two people of this demonstration. The page knows both, so that it can
// switch from one to the other. A real system gives each person a token of their own and looks
// it up here.
const (
	guestSecret   = "guest-secret"
	managerSecret = "manager-secret"
)

// RoleOf returns the role of a secret's holder.
func RoleOf(secret string) Role {
	switch secret {
	case guestSecret:
		return Guest
	case managerSecret:
		return Manager
	default:
		return Nobody
	}
}

// MaySee reports whether a person of the role may see things of a kind at all.
func (r Role) MaySee(kind shared.EntityType) bool {
	return r == Manager || r == Guest && kind != privateEntity
}
