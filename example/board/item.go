package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// NewItem is the body of a request to add an item.
type NewItem struct {
	Name       string `json:"name"`
	Quantity   int64  `json:"quantity"`
	PriceCents int64  `json:"priceCents"`
	CostCents  int64  `json:"costCents"`
	Private    bool   `json:"private"` // only managers may see it
}

// Change is the body of a request to change an item. Fields that are absent stay as they are.
type Change struct {
	Name       *string `json:"name"`
	Quantity   *int64  `json:"quantity"`
	Add        *int64  `json:"add"` // to the quantity, so that two people's clicks both count
	PriceCents *int64  `json:"priceCents"`
	CostCents  *int64  `json:"costCents"`
}

const (
	maxNameRunes = 60
	maxQuantity  = 999_999
	maxCents     = 99_999_999
)

// Validate tidies the item up and says, in words for the page, what is wrong.
func (n *NewItem) Validate() error {
	n.Name = strings.TrimSpace(n.Name)
	return firstError(
		checkName(n.Name),
		checkRange("quantity", n.Quantity, 0, maxQuantity),
		checkMoney("price", n.PriceCents),
		checkMoney("unit cost", n.CostCents),
	)
}

// Validate is NewItem's Validate for a change.
func (c *Change) Validate() error {
	if *c == (Change{}) {
		return fmt.Errorf("there is nothing to change")
	}
	if c.Quantity != nil && c.Add != nil {
		return fmt.Errorf("set the quantity or add to it, not both")
	}
	var errs []error
	if c.Name != nil {
		*c.Name = strings.TrimSpace(*c.Name)
		errs = append(errs, checkName(*c.Name))
	}
	if c.Quantity != nil {
		errs = append(errs, checkRange("quantity", *c.Quantity, 0, maxQuantity))
	}
	if c.Add != nil {
		errs = append(errs, checkRange("step", *c.Add, -maxQuantity, maxQuantity))
	}
	if c.PriceCents != nil {
		errs = append(errs, checkMoney("price", *c.PriceCents))
	}
	if c.CostCents != nil {
		errs = append(errs, checkMoney("unit cost", *c.CostCents))
	}
	return firstError(errs...)
}

// OnlyQuantity reports whether the change is one that a guest may make.
func (c *Change) OnlyQuantity() bool {
	return c.Name == nil && c.PriceCents == nil && c.CostCents == nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name is empty")
	case utf8.RuneCountInString(name) > maxNameRunes:
		return fmt.Errorf("the name is longer than %d characters", maxNameRunes)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("the name holds a control character")
	}
	return nil
}

func checkRange(what string, n, min, max int64) error {
	if n < min || n > max {
		return fmt.Errorf("the %s must be from %d to %d", what, min, max)
	}
	return nil
}

func checkMoney(what string, cents int64) error {
	if cents < 0 || cents > maxCents {
		return fmt.Errorf("the %s must be from 0.00 to %d.%02d", what, maxCents/100, maxCents%100)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
