package main

import "github.com/entity-sync/entity-sync/shared"

// Role is what a secret stands for.
type Role string

// The roles of the board. Nobody may see and do nothing.
const (
	Nobody  Role = ""
	Guest   Role = "guest"
	Manager Role = "manager"
)

// Secrets of the two people of this demonstration; the page knows both, so that
// it can change from one to the other. A real system hands each person a token
// of their own and looks it up here.
const (
	guestSecret   = "guest-secret"
	managerSecret = "manager-secret"
)

// RoleOf returns the role of who holds the secret.
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

// MaySee reports whether somebody of the role may see things of a kind at all.
func (r Role) MaySee(kind shared.EntityType) bool {
	return r == Manager || r == Guest && kind != privateEntity
}
