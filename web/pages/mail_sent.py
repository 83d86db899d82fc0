"""/mail-sent: what a person who waits for a mail is told, the same whether or not there is one."""

from flask import Blueprint, render_template, request

blueprint = Blueprint("mail_sent", __name__)

ABOUT = {
    "sign-up": "We have mailed you a link. Follow it, and your account is there.",
    "password": "If somebody here has this address, we have mailed a link to it: choose a new password there.",
    "email": "We have mailed a link to your new address. Until you follow it, the old one stays.",
}


@blueprint.get("/mail-sent")
def page() -> str:
    return render_template("mail_sent.html", text=ABOUT.get(request.args.get("about", ""), ABOUT["sign-up"]))
