"""Every page that there is, by what it is called here: those of anybody, and those of an account's owner."""

OF_ANYBODY = {
    "welcome": "/",
    "sign-up": "/sign-up",
    "log-in": "/log-in",
    "forgotten-password": "/forgotten-password",
    "mail-sent": "/mail-sent?about=password",
    "verify-email": "/verify-email?token=any",
    "reset-password": "/reset-password?token=any",
    "confirm-email": "/confirm-email?token=any",
    "accept-invitation": "/accept-invitation?token=any",
}
OF_AN_OWNER = {
    "overview": "/account",
    "keys": "/account/keys",
    "usage": "/account/usage",
    "billing": "/account/billing",
    "members": "/account/members",
    "settings": "/account/settings",
    "change-email": "/account/settings/email",
    "change-password": "/account/settings/password",
}
