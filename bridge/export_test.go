package bridge

// HandedOutAtOnce is for tests outside of this package.
var HandedOutAtOnce = &handedOutAtOnce
