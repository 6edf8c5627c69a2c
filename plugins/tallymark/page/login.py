"""The response to a browser that is not logged in to Airflow."""

import base64
import hashlib
from html import escape
from pathlib import Path

from fastapi import Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

# A script opens the login. A redirect would lose the fragment of the address (#...), which browsers do not send to the
# server. The policy allows this script and nothing else.
PAGE = (Path(__file__).parent / "static" / "login.html").read_text()
SCRIPT = PAGE.partition("<script>")[2].partition("</script>")[0]
SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; script-src 'sha256-{SCRIPT_HASH}'; frame-ancestors 'self'",
    "Cache-Control": "no-store",
}


async def ask_for_login(request: Request, error: HTTPException) -> Response:
    """Return a page that leads to Airflow's login and back, if a browser opened an address without being logged in.

    All other errors, and all errors of API clients, stay JSON.
    """
    # Airflow returns status 403 with this text for a token that it cannot verify, for example after its key changed.
    is_logged_out = error.status_code == 401 or (error.status_code, error.detail) == (403, "Invalid JWT token")
    if not is_logged_out or "text/html" not in request.headers.get("Accept", ""):
        return await http_exception_handler(request, error)
    airflow = request.scope.get("root_path", "").rpartition("/")[0]
    page = PAGE.replace("{login}", escape(f"{airflow}/api/v2/auth/login"))
    return HTMLResponse(page, error.status_code, HEADERS)
